package deploy

import (
	"bytes"
	"testing"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/agent"
)

func newKey(t *testing.T) sign.Secret {
	t.Helper()
	s, err := sign.NewSecret()
	must(t, err)
	return s
}

func signedBy(t *testing.T, s sign.Secret, what []byte) []byte {
	t.Helper()
	text, err := s.Sign(what, "test")
	must(t, err)
	return text
}

// TestSignatures: what is not signed as asked has its name, and the disk is not
// touched.
func TestSignatures(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	site, other := newKey(t), newKey(t)
	good, foreign := signedBy(t, site, im.manifest), signedBy(t, other, im.manifest)
	elsewhere := signedBy(t, site, append(bytes.Clone(im.manifest), ' '))
	flipped := bytes.Clone(good)
	flipped[bytes.IndexByte(good, '\n')+40] ^= 1
	keys := []string{site.Public().String()}
	for name, c := range map[string]struct {
		signatures [][]byte
		trusted    []string
		baked      []byte
		want       job.Reason
	}{
		"signed":                  {[][]byte{foreign, good}, keys, nil, ""},
		"not asked for":           {nil, nil, nil, ""},
		"missing":                 {nil, keys, nil, job.ReasonSignatureMissing},
		"untrusted":               {[][]byte{foreign}, keys, nil, job.ReasonSignatureForeign},
		"of another manifest":     {[][]byte{elsewhere}, keys, nil, job.ReasonSignatureWrong},
		"one bit":                 {[][]byte{flipped}, keys, nil, job.ReasonSignatureWrong},
		"garbage":                 {[][]byte{{0xff}}, keys, nil, job.ReasonSignatureWrong},
		"key that is none":        {[][]byte{good}, []string{"x"}, nil, job.ReasonSignatureWrong},
		"initramfs":               {[][]byte{good}, nil, site.Public().File(), ""},
		"initramfs, missing":      {nil, nil, site.Public().File(), job.ReasonSignatureMissing},
		"initramfs knows better":  {[][]byte{foreign}, []string{other.Public().String()}, site.Public().File(), job.ReasonSignatureForeign},
		"order knows better":      {[][]byte{foreign}, keys, other.Public().File(), job.ReasonSignatureForeign},
		"both":                    {[][]byte{foreign, good}, keys, other.Public().File(), ""},
		"initramfs, broken list":  {[][]byte{good}, nil, []byte("RWx\n"), job.ReasonSignatureForeign},
		"initramfs, a list empty": {[][]byte{good}, nil, []byte{}, job.ReasonSignatureForeign},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, im)
			b.order.Signatures, b.order.TrustedKeys, b.machine.TrustedKeys = c.signatures, c.trusted, c.baked
			asked := im.asked.Load()
			_, err := Plan(b.machine, b.order)
			if c.want == "" {
				if err != nil {
					t.Fatalf("got %v, want a plan", err)
				}
				return
			}
			if got := job.ReasonOf(err); err == nil || got != c.want {
				t.Errorf("got %s (%v), want %s", got, err, c.want)
			}
			if im.asked.Load() != asked {
				t.Error("the image was asked for before its signature was checked")
			}
		})
	}
}

// TestSignedDeploy goes the whole way with keys from both sides.
func TestSignedDeploy(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	site := newKey(t)
	b := newBench(t, im)
	b.order.Signatures, b.order.TrustedKeys = [][]byte{signedBy(t, site, im.manifest)}, []string{site.Public().String()}
	b.machine.TrustedKeys = site.Public().File()
	if result, _ := b.deploy(1); result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED {
		t.Errorf("got %v, want success", result)
	}
}
