package agentapi

import (
	"context"
	"fmt"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/agent"
)

// refusal is why an order cannot be made, with the reason that people are told.
type refusal struct {
	reason machine.Reason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// demand adds to a deploy whose signatures the agent has to find, as the policy of
// the machine's pool is now. The signatures go along in any case: the agent's
// own initramfs may ask for them. job may be nil.
func (s *Server) demand(ctx context.Context, m machine.Machine, job *agent.DeployJob) error {
	if job == nil {
		return nil
	}
	t, err := s.Store.ImageTrust(ctx, m.Pool, job.GetImageDigest())
	if err != nil {
		return fmt.Errorf("signatures of image %s: %w", job.GetImageDigest(), err)
	}
	job.Signatures = t.Signatures
	if !t.Required {
		return nil
	}
	for _, k := range t.Keys {
		job.TrustedKeys = append(job.TrustedKeys, k.PublicKey)
	}
	if len(t.Keys) == 0 {
		// To an agent a list without keys is no demand.
		return &refusal{machine.ReasonSignatureForeign, fmt.Errorf("pool %s requires signed images, and no key is trusted: ingot image trust add", m.Pool)}
	}
	return nil
}
