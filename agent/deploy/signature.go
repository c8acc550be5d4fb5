package deploy

import (
	"errors"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/sign"
)

// checkSignatures refuses an image that nobody trusted has signed, where that is
// asked for: by the order, and whatever the order says, by the list of keys in
// our own initramfs. It is called before anything is fetched or written. The
// manifest has been checked against the digest, so that the order's bytes are
// the canonical ones.
func (d *deploy) checkSignatures() error {
	if len(d.order.TrustedKeys) > 0 {
		if err := d.signedBy(d.order.TrustedKeys, "the keys that the order trusts"); err != nil {
			return err
		}
	}
	if d.machine.TrustedKeys == nil {
		return nil
	}
	keys, err := sign.ParseKeys(string(d.machine.TrustedKeys))
	if err != nil {
		return job.Failf(job.ReasonSignatureForeign, "keys in this machine's initramfs: %w", err)
	}
	return d.signedBy(keys, "the keys in this machine's initramfs")
}

func (d *deploy) signedBy(keys []string, whose string) error {
	_, err := sign.Verify(d.order.Manifest, d.order.Signatures, keys)
	if err == nil {
		return nil
	}
	reason := job.ReasonSignatureWrong
	switch {
	case errors.Is(err, sign.ErrMissing):
		reason = job.ReasonSignatureMissing
	case errors.Is(err, sign.ErrUntrusted):
		reason = job.ReasonSignatureForeign
	}
	return job.Failf(reason, "image %s against %s: %w", d.digest, whose, err)
}
