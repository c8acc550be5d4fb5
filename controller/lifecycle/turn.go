package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// turn is one decision being made.
type turn struct {
	s machine.Snapshot
	d machine.Decision
}

// idleLook is when a resting machine is looked at again, should every wake-up
// have been lost.
const idleLook = 10 * time.Minute

// idle leaves the machine alone, unless it rests where it may be given away and
// an inventory has shown a disk with an owner's data.
func (t *turn) idle() {
	if in := t.s.Machine.State; in == machine.Ready || in == machine.Allocated {
		if reason, detail := t.s.Machine.NotFree(nil); reason != machine.ReasonNone {
			t.setAside(reason, detail)
			t.event(machine.EventWarning, machine.CauseOf(reason).Sentence, "reason", string(reason), "detail", detail)
			return
		}
	}
	t.d.Wait = &machine.Wait{For: "nothing is asked of it", Until: t.s.Now.Add(idleLook)}
}

func (t *turn) wait(phase, what string, d time.Duration) {
	t.d.Phase = phase
	t.d.Wait = &machine.Wait{For: what, Until: t.s.Now.Add(d)}
}

func (t *turn) enter(to machine.State) {
	t.d.Go = &machine.Go{To: to}
	t.event(machine.EventState, fmt.Sprintf("%s → %s", t.s.Machine.State, to))
}

// succeed ends the operation well, with the machine resting in a state.
func (t *turn) succeed(to machine.State) {
	t.d.End = &machine.End{To: to, Outcome: machine.OutcomeNone}
	if to != t.s.Machine.State {
		t.event(machine.EventState, fmt.Sprintf("%s → %s", t.s.Machine.State, to))
	}
	t.event(machine.EventOperation, fmt.Sprintf("%s succeeded", t.s.Operation.Kind))
}

// free ends the operation well, with the machine ready for somebody else. One
// whose disks may still hold what an owner left is set aside instead (I10).
func (t *turn) free() {
	if reason, detail := t.s.Machine.NotFree(t.d.Receipts); reason != machine.ReasonNone {
		t.setAside(reason, detail)
		t.event(machine.EventOperation, fmt.Sprintf("%s failed: %s", t.s.Operation.Kind, machine.CauseOf(reason).Sentence), "reason", string(reason), "detail", detail)
		return
	}
	t.succeed(machine.Ready)
}

// setAside puts the machine into quarantine, whatever is asked of it.
func (t *turn) setAside(reason machine.Reason, detail string) {
	t.d.End = &machine.End{To: machine.Broken, Outcome: machine.OutcomeFailed, Reason: reason, Detail: detail}
	t.event(machine.EventState, fmt.Sprintf("%s → %s", t.s.Machine.State, machine.Broken))
}

// fail ends the operation with a named cause; the machine stays in its state.
func (t *turn) fail(reason machine.Reason, detail string) {
	if !machine.Known(reason) {
		detail, reason = fmt.Sprintf("%s: %s", reason, detail), machine.ReasonUnknown
	}
	t.d.End = &machine.End{To: t.s.Machine.State, Outcome: machine.OutcomeFailed, Reason: reason, Detail: detail}
	t.event(machine.EventOperation, fmt.Sprintf("%s failed: %s", t.s.Operation.Kind, machine.CauseOf(reason).Sentence), "reason", string(reason), "detail", detail)
}

func (t *turn) event(kind, text string, pairs ...string) {
	e := machine.Event{Kind: kind, Text: text}
	for i := 0; i+1 < len(pairs); i += 2 {
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail[pairs[i]] = pairs[i+1]
	}
	t.d.Events = append(t.d.Events, e)
}

// cancelled ends the operation when a person asked for that and the state lets
// it. A machine whose disk may have been touched, by this operation or by an
// earlier one, stays where it is, cancelled: it must not look free.
func (t *turn) cancelled() bool {
	if !t.s.Operation.CancelAsked {
		return false
	}
	rule, _ := machine.RuleOf(t.s.Machine.State)
	to := t.s.Machine.State
	if worked := rule.Passing && worksIn[t.s.Operation.Kind][to]; worked && t.s.Operation.State != machine.OperationPending {
		if rule.CancelTo == "" {
			return false // refused at the door; a late one has no effect
		}
		reason, _ := t.s.Machine.NotFree(nil)
		if to == machine.Commissioning || t.beganFree() && !t.diskTouched() && reason == machine.ReasonNone {
			to = rule.CancelTo
		}
	}
	t.d.End = &machine.End{To: to, Outcome: machine.OutcomeCancelled, Reason: machine.ReasonCancelled, Detail: "cancelled while: " + t.s.Operation.Phase}
	t.event(machine.EventOperation, fmt.Sprintf("%s cancelled", t.s.Operation.Kind))
	return true
}

// worksIn are the passing states in which a kind of operation is worked on. In
// others it stands only for a moment, until its first turn; a wish for power
// moves nothing.
var worksIn = map[machine.OperationKind]map[machine.State]bool{
	machine.OperationCommission: {machine.Commissioning: true},
	machine.OperationDeploy:     {machine.Deploying: true},
	machine.OperationRelease:    {machine.Releasing: true, machine.Erasing: true},
}

// stepBegin is the line of an operation's history that says in which state it
// found the machine.
const stepBegin = "begin"

// begin leaves a resting state, or one that had failed, for the one in which the
// operation is worked on.
func (t *turn) begin(in machine.State) {
	t.record(stepBegin, machine.StepDone, string(t.s.Machine.State))
	t.enter(in)
}

// beganFree reports whether the operation found the machine free, with nothing
// of an owner's on its disks.
func (t *turn) beganFree() bool {
	found := t.foundIn()
	return found == machine.Ready || found == machine.Allocated
}

// foundIn is the state in which the operation found the machine; empty before
// its first turn.
func (t *turn) foundIn() machine.State {
	for _, r := range t.s.Operation.Steps {
		if r.Name == stepBegin {
			return machine.State(r.Detail)
		}
	}
	return ""
}

// diskTouched reports whether an order that writes may have begun.
func (t *turn) diskTouched() bool {
	for _, o := range t.s.Orders {
		if (o.Job.Deploy != nil || o.Job.Erase != nil) && o.State != machine.OrderPending {
			return true
		}
	}
	return false
}
