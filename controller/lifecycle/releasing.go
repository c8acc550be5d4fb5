package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// releasing brings the machine back into the agent.
func releasing(t *turn) {
	if t.elsewhere(machine.OperationRelease) {
		return
	}
	if !t.agentPresent() {
		return
	}
	t.enter(machine.Erasing)
}

// erasing erases the disks and keeps a receipt for each; without one the
// machine does not become ready.
func erasing(t *turn) {
	if t.elsewhere(machine.OperationRelease) || t.recovering() {
		return
	}
	disks := t.s.Operation.Wish.Release.DiskSerials
	order := t.run(step{
		Name: "erase", Target: machine.TargetAgent, Cause: fmt.Sprintf("erase %d disks before the machine is free", len(disks)),
		Job:   machine.Job{Erase: &machine.EraseJob{DiskSerials: disks, VerifyPercent: 1}},
		Limit: 23 * time.Hour, Tries: 2,
		Irreversible: "erased data is gone; that is the purpose",
		Accept:       func(r machine.Result) (machine.Reason, string) { return acceptErase(disks, r) },
	})
	if order == nil {
		return
	}
	t.d.Receipts = order.Result.Erase
	t.d.ForgetDeployment = true
	t.free()
}

// recovering brings the agent back before an unfinished erase goes on.
func (t *turn) recovering() bool {
	if o := t.latest("erase"); o != nil && o.State == machine.OrderSucceeded {
		return false
	}
	return !t.agentPresent()
}

func acceptErase(serials []string, r machine.Result) (machine.Reason, string) {
	got := map[string]bool{}
	for _, receipt := range r.Erase {
		if !receipt.Verified {
			return machine.ReasonEraseUnverified, "disk " + receipt.Key() + " is not proved erased"
		}
		got[receipt.Key()] = true
	}
	for _, s := range serials {
		if !got[s] {
			return machine.ReasonEraseUnverified, "no receipt for disk " + s
		}
	}
	return machine.ReasonNone, ""
}
