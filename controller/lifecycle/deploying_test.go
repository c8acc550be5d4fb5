package lifecycle

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// A deploy is proven by reading all of it back, or the share that was ordered;
// a sample where all was wanted proves nothing.
func TestProofOfADeploy(t *testing.T) {
	t.Parallel()
	all, sample := machine.ReadBack{}, machine.ReadBack{Percent: 10}
	for name, c := range map[string]struct {
		ordered  machine.ReadBack
		verified bool
		after    time.Duration
		want     machine.Reason
	}{
		"all, and all was read":           {all, true, time.Second, machine.ReasonNone},
		"all, and a sample was read":      {all, false, time.Second, machine.ReasonImageDigest},
		"a sample, and it was read":       {sample, false, time.Second, machine.ReasonNone},
		"a sample, and all was read":      {sample, true, time.Second, machine.ReasonNone},
		"a sample, and nothing was read":  {sample, false, 0, machine.ReasonImageDigest},
		"all of it, and nothing was read": {machine.ReadBack{Percent: 100}, false, time.Second, machine.ReasonImageDigest},
	} {
		wish := &machine.DeployWish{ImageDigest: "sha256:1", Disk: "S1", ReadBack: c.ordered}
		got, _ := acceptDeploy(machine.Machine{Disks: []machine.Disk{{Serial: "S1"}}}, wish, machine.Result{Deploy: &machine.DeployResult{
			ImageDigest: "sha256:1", DiskSerial: "S1", Verified: c.verified, VerifiedAfter: c.after,
		}})
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
