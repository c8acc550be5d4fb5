package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// commissioning takes the inventory and runs the tests, in a resident agent.
func commissioning(t *turn) {
	if t.elsewhere(machine.OperationCommission) {
		return
	}
	if !t.agentPresent() {
		return
	}
	wish := t.s.Operation.Wish.Commission
	order := t.run(step{
		Name: "commission", Target: machine.TargetAgent, Cause: "take the inventory and test the hardware",
		Job:   machine.Job{Commission: &machine.CommissionJob{SkipTests: wish != nil && wish.SkipTests}},
		Limit: 25 * time.Minute, Tries: 2,
		Irreversible: "reading and testing change nothing",
		Accept:       acceptTests,
	})
	if order == nil {
		return
	}
	t.d.Warnings = order.Result.Warnings
	t.free()
}

func acceptTests(r machine.Result) (machine.Reason, string) {
	if r.Tests != nil && r.Tests.Failed > 0 {
		return machine.ReasonTestFailed, fmt.Sprintf("%d of %d tests failed", r.Tests.Failed, r.Tests.Failed+r.Tests.Passed)
	}
	return machine.ReasonNone, ""
}
