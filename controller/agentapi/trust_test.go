package agentapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/agent"
)

const signedDigest = "0123456789012345678901234567890123456789012345678901234567890123"

// orderSigned gives the rig's machine an order to write a signed image.
func (r *rig) orderSigned() (id int64) {
	r.t.Helper()
	must(r.t, r.store.ImageRecord(r.t.Context(), store.Image{Digest: signedDigest, Name: "x", Architecture: "amd64", Kind: "disk", SizeBytes: 1, SectorBytes: 512, FrameBytes: 1 << 20}, "c1", "alice"))
	must(r.t, r.store.ImageSign(r.t.Context(), signedDigest, store.Signature{KeyID: "0000000000000001", Text: []byte("signature")}, "alice"))
	storetest.Exec(r.t, r.store, "INSERT INTO disk (machine_id, serial, size_bytes) SELECT id, 'd1', 1 << 30 FROM machine")
	_, err := r.store.OperationCreate(r.t.Context(), r.id, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, "", "alice")
	must(r.t, err)
	r.turn(func(machine.Snapshot) machine.Decision {
		return machine.Decision{Go: &machine.Go{To: machine.Commissioning}}
	})
	wish := machine.DeployWish{ImageDigest: signedDigest, Disk: "d1", Proof: machine.ProofNone, InstanceID: "i", Hostname: "m1", Reuse: true}
	r.turn(func(snap machine.Snapshot) machine.Decision {
		return machine.Decision{Wait: &machine.Wait{Until: snap.Now.Add(time.Hour)}, Orders: []machine.Order{{
			Step: "write", Target: machine.TargetAgent, Cause: "test", Job: machine.Job{Deploy: &wish}}}}
	})
	storetest.Row(r.t, r.store, "SELECT id FROM machine_order WHERE step = 'write'", nil, &id)
	return id
}

// TestSignaturesGoAlong: always, and with the keys only where the machine's pool
// asks for one of them.
func TestSignaturesGoAlong(t *testing.T) {
	t.Parallel()
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			must(t, r.store.PoolSet(t.Context(), "default", &required, "alice"))
			must(t, r.store.TrustedKeyAdd(t.Context(), store.TrustedKey{Name: "site", KeyID: "0000000000000001", PublicKey: "RWkey"}, "alice"))
			s := r.connect(0)
			r.orderSigned()
			job := s.next("the order", order).GetOrder().GetDeploy()
			if got := job.GetSignatures(); len(got) != 1 || string(got[0]) != "signature" {
				t.Errorf("signatures: got %q", got)
			}
			if got := job.GetTrustedKeys(); (len(got) == 1 && got[0] == "RWkey") != required {
				t.Errorf("trusted keys: got %q", got)
			}
			if !job.GetReuse() {
				t.Error("the wish to reuse the disk's content did not go along")
			}
		})
	}
}

// TestRequiredAndNobodyTrusted: an order without keys would ask the agent for
// nothing, so there is none.
func TestRequiredAndNobodyTrusted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	on := true
	must(t, r.store.PoolSet(t.Context(), "default", &on, "alice"))
	r.connect(0)
	wake := r.store.Wake(t.Context())
	id := r.orderSigned()
	floor := time.NewTicker(100 * time.Millisecond) // a wake-up may be lost
	defer floor.Stop()
	for {
		o, err := r.store.OrderGet(t.Context(), id)
		must(t, err)
		if o.State == machine.OrderFailed {
			if o.Reason != machine.ReasonSignatureForeign {
				t.Errorf("got %s (%s), want %s", o.Reason, o.Detail, machine.ReasonSignatureForeign)
			}
			return
		}
		if o.State != machine.OrderPending {
			t.Fatalf("the order is %s", o.State)
		}
		select {
		case <-wake:
		case <-floor.C:
		}
	}
}

// TestAgentOfAnotherProtocol: one that would pass over the signatures that it is
// to find is told what to do, before anything is asked of the store.
func TestAgentOfAnotherProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, version := range []uint32{0, 1, 3} {
		_, err := r.client().Enrol(t.Context(), &agent.EnrolRequest{Protocol: version})
		if err == nil || !strings.Contains(err.Error(), "boot it with this controller's initramfs") {
			t.Errorf("protocol %d: got %v, want it refused with what to do", version, err)
		}
	}
}
