package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// rest handles every state that does not pass: it looks at the wish and enters
// the state in which that wish is worked on.
func rest(t *turn) {
	m, op := t.s.Machine, t.s.Operation
	if !m.Approved {
		t.fail(machine.ReasonNotApproved, "nothing is done to a machine that nobody approved")
		return
	}
	switch op.Kind {
	case machine.OperationCommission:
		t.begin(machine.Commissioning)
	case machine.OperationDeploy:
		t.begin(machine.Deploying)
	case machine.OperationRelease:
		t.begin(machine.Releasing)
	case machine.OperationPower:
		t.powerWish()
	default:
		t.fail(machine.ReasonUnknown, fmt.Sprintf("operation %q is not known to this controller", op.Kind))
	}
}

// elsewhere handles an operation that was asked for in a passing state that
// had ended (failed or cancelled): the wish decides where it is worked on.
func (t *turn) elsewhere(mine machine.OperationKind) bool {
	if t.s.Operation.Kind == mine {
		return false
	}
	rest(t)
	return true
}

// powerWish carries out a person's power action; the state stays as it is, and
// so does a failure that stands (the store keeps it).
func (t *turn) powerWish() {
	if !drivable(t.s.Machine) {
		t.fail(machine.ReasonNoBMC, "power was asked for and there is no BMC to ask")
		return
	}
	asked := t.s.Operation.Wish.Power.Action
	var actions []string
	switch asked {
	case "on":
		actions = []string{machine.BMCOn}
	case "off":
		actions = []string{machine.BMCOff}
	case "cycle":
		actions = []string{machine.BMCOff, machine.BMCOn}
	case "query":
		actions = []string{machine.BMCQuery}
	default:
		t.fail(machine.ReasonUnknown, fmt.Sprintf("power action %q is none of on, off, cycle, query", asked))
		return
	}
	for _, a := range actions {
		o := t.run(bmcStep("power-"+a, "an operator asked for power "+asked, machine.BMCJob{Action: a}))
		if o == nil {
			return
		}
		t.d.Power = o.Result.Power
	}
	t.succeed(t.s.Machine.State)
}

// drivable reports whether a BMC can be asked at all.
func drivable(m machine.Machine) bool {
	return m.BMC != nil && m.BMC.URL != "" && m.BMC.URL != "manual:"
}

// bmcStep is a step for a BMC. Power on and off undo each other; an override is
// undone by the next one.
func bmcStep(name, cause string, job machine.BMCJob) step {
	st := step{
		Name: name, Target: machine.TargetBMC, Cause: cause, Job: machine.Job{BMC: &job},
		Limit: 10 * time.Minute, Tries: 4,
	}
	switch job.Action {
	case machine.BMCOn:
		st.Undo = machine.BMCOff
	case machine.BMCOff, machine.BMCSoftOff:
		st.Undo = machine.BMCOn
		st.Irreversible = "what the system had not flushed is lost; the next boot recovers its file systems"
	case machine.BMCBootAgentOnce:
		st.Undo = machine.BMCBootDisk
	case machine.BMCBootDisk:
		st.Undo = machine.BMCBootAgentOnce
	case machine.BMCQuery:
		st.Irreversible = "reading changes nothing"
	}
	return st
}
