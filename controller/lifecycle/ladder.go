package lifecycle

import (
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// stepRestart is the rung between trying again and giving up: a BMC that says yes
// and does nothing, or that talks nonsense, often does better after a restart of
// its own. One of an operation; the machine keeps its power.
const stepRestart = "bmc-restart"

// restartHelps are the reasons for which it is worth it.
var restartHelps = map[machine.Reason]bool{machine.ReasonBMCIgnored: true, machine.ReasonBMCProtocol: true}

func restartStep() step {
	st := bmcStep(stepRestart, "the BMC does not do what it is told: it is restarted, the machine is not", machine.BMCJob{Action: machine.BMCRestart})
	st.Irreversible = "its sessions end; the machine keeps its power"
	return st
}

// ladder decides the turn after a step of the BMC has failed for good: it
// restarts the BMC once and gives the step again. It returns false when that is
// no use, or was none. A person who asks for power gets an answer, not a restart.
func (t *turn) ladder(st step, failed *machine.Order) bool {
	if st.Target != machine.TargetBMC || st.Name == stepRestart || !restartHelps[failed.Reason] || t.s.Operation.Kind == machine.OperationPower {
		return false
	}
	restart := t.latest(stepRestart)
	switch {
	case restart == nil:
		t.record(st.Name, machine.StepFailed, failed.Detail)
		t.give(restartStep(), 1)
	case restart.State == machine.OrderPending || restart.State == machine.OrderDelivered:
		left := restartStep().Limit - t.s.Now.Sub(restart.CreatedAt)
		if left <= 0 {
			return false
		}
		t.wait(stepRestart, "for the BMC to restart", left)
	case restart.State == machine.OrderSucceeded && failed.FinishedAt.Before(restart.FinishedAt):
		t.record(stepRestart, machine.StepDone, restart.Result.Evidence)
		t.give(st, failed.Attempt+1)
	default:
		return false
	}
	return true
}

// restartEvidence says what a restart of the BMC brought, for a person who reads
// why the operation failed.
func (t *turn) restartEvidence() string {
	restart := t.latest(stepRestart)
	switch {
	case restart == nil:
		return ""
	case restart.State == machine.OrderSucceeded:
		return "; a restart of the BMC at " + restart.FinishedAt.UTC().Format(time.TimeOnly) + " UTC did not help"
	case restart.State == machine.OrderFailed:
		return "; its BMC could not be restarted: " + restart.Detail
	}
	return "; its BMC did not come back from a restart"
}
