package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// step is one effect outside the database. Do is the order; check and verify are
// its executor's, which looks before it acts and reads back before it says
// succeeded (Accept judges what it brought); and undo, or an honest Irreversible
// with the way to recover.
type step struct {
	Name   string
	Target machine.Target
	Cause  string
	Job    machine.Job
	// Limit from giving the order to its result; then the order counts as lost.
	Limit time.Duration
	// Tries is how often the order is given before its failure is the
	// operation's, counting only failures that may pass.
	Tries int
	// Accept judges a result that the executor calls good; a reason refuses it.
	Accept func(machine.Result) (machine.Reason, string)
	// Undo names the step that takes the effect back; empty when Irreversible
	// says why there is none and how to recover.
	Undo         string
	Irreversible string
}

// passing are the reasons for which an order is worth giving again.
var passing = map[machine.Reason]bool{
	machine.ReasonBMCUnreachable: true,
	machine.ReasonBMCProtocol:    true,
	machine.ReasonAgentSilent:    true,
	machine.ReasonImageGone:      true,
	machine.ReasonCancelled:      true, // by the loss of its boot, not by a person
}

// reissues bounds how often an order is given again because its boot was lost.
const reissues = 6

// run brings the step forward and returns its order once it has succeeded. When
// it returns nil the turn is decided: waiting, or failed.
func (t *turn) run(st step) *machine.Order {
	last := t.latest(st.Name)
	if last == nil {
		t.give(st, 1)
		return nil
	}
	switch last.State {
	case machine.OrderSucceeded:
		return t.accept(st, last)
	case machine.OrderFailed:
		t.again(st, last)
	case machine.OrderSuperseded:
		t.reissue(st, last)
	default:
		t.await(st, last)
	}
	return nil
}

func (t *turn) accept(st step, o *machine.Order) *machine.Order {
	if st.Accept != nil {
		if reason, detail := st.Accept(o.Result); reason != machine.ReasonNone {
			t.record(st.Name, machine.StepFailed, detail)
			t.fail(reason, detail)
			return nil
		}
	}
	t.record(st.Name, machine.StepDone, o.Result.Evidence)
	return o
}

func (t *turn) again(st step, o *machine.Order) {
	if passing[o.Reason] && o.Attempt < st.Tries {
		pause := time.Duration(o.Attempt) * 5 * time.Second
		if left := pause - t.s.Now.Sub(o.FinishedAt); left > 0 {
			t.wait(st.Name, fmt.Sprintf("before try %d: %s", o.Attempt+1, o.Detail), left)
			return
		}
		t.give(st, o.Attempt+1)
		return
	}
	if t.ladder(st, o) {
		return
	}
	detail := o.Detail + t.restartEvidence()
	t.record(st.Name, machine.StepFailed, detail)
	t.fail(o.Reason, detail)
}

func (t *turn) reissue(st step, o *machine.Order) {
	if o.Attempt >= reissues {
		detail := fmt.Sprintf("%s was given %d times and each time the agent's boot was lost", st.Name, o.Attempt)
		t.record(st.Name, machine.StepFailed, detail)
		t.fail(machine.ReasonAgentSilent, detail)
		return
	}
	t.give(st, o.Attempt+1)
}

func (t *turn) await(st step, o *machine.Order) {
	left := st.Limit - t.s.Now.Sub(o.CreatedAt)
	if left > 0 {
		t.wait(st.Name, "for the result of "+st.Name, left)
		return
	}
	detail := fmt.Sprintf("%s gave no result within %s", st.Name, st.Limit)
	t.record(st.Name, machine.StepFailed, detail)
	reason := machine.ReasonAgentSilent
	if st.Target == machine.TargetBMC {
		reason = machine.ReasonBMCUnreachable
	}
	t.fail(reason, detail)
}

func (t *turn) give(st step, attempt int) {
	if st.Undo == "" && st.Irreversible == "" {
		panic("step " + st.Name + " says neither what undoes it nor that nothing does") // a programmer's mistake
	}
	t.d.Orders = append(t.d.Orders, machine.Order{
		MachineID: t.s.Machine.ID, OperationID: t.s.Operation.ID, Step: st.Name, Attempt: attempt,
		Target: st.Target, Cause: st.Cause, Job: st.Job,
	})
	t.record(st.Name, machine.StepIntended, st.Cause)
	if attempt == 1 {
		t.event(machine.EventStep, st.Name+": "+st.Cause)
	} else {
		t.event(machine.EventStep, fmt.Sprintf("%s: %s (try %d)", st.Name, st.Cause, attempt))
	}
	t.wait(st.Name, "for the result of "+st.Name, st.Limit)
}

// record brings the step's line in the operation's history up to date, unless
// it says so already.
func (t *turn) record(name string, state machine.StepState, detail string) {
	for _, r := range t.s.Operation.Steps {
		if r.Name == name && r.State == state && state != machine.StepIntended {
			return
		}
	}
	r := machine.StepRecord{Name: name, State: state, Detail: detail, StartedAt: t.s.Now}
	if state != machine.StepIntended {
		r.FinishedAt = t.s.Now
	}
	t.d.Steps = append(t.d.Steps, r)
}

// latest is the newest order of a step in this operation.
func (t *turn) latest(name string) *machine.Order {
	for i := len(t.s.Orders) - 1; i >= 0; i-- {
		if t.s.Orders[i].Step == name {
			return &t.s.Orders[i]
		}
	}
	return nil
}
