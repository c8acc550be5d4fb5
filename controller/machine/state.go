package machine

import "time"

// State says where in its life a machine is. A failure is not a state: it is an
// outcome with a reason, in the state where it happened.
type State string

// States. The -ing form passes and has a deadline; the others rest.
const (
	Enrolled      State = "enrolled"
	Commissioning State = "commissioning"
	Ready         State = "ready"
	Allocated     State = "allocated"
	Deploying     State = "deploying"
	Deployed      State = "deployed"
	Releasing     State = "releasing"
	Erasing       State = "erasing"
	Broken        State = "broken"
)

// Outcome says how the work of a state goes.
type Outcome string

// Outcomes.
const (
	OutcomeNone      Outcome = "none"    // a resting state, nothing asked
	OutcomeRunning   Outcome = "running" // the engine is at it
	OutcomeFailed    Outcome = "failed"
	OutcomeCancelled Outcome = "cancelled"
)

// Rule is one row of the table of states.
type Rule struct {
	State State
	// Sentence explains the state to a person.
	Sentence string
	// Passing states have a Limit after which TimeoutReason fails them.
	Passing       bool
	Limit         time.Duration
	TimeoutReason Reason
	// CancelTo is where a cancelled machine rests; a cancel of a state with
	// none is refused and CancelRefused says why.
	CancelTo      State
	CancelRefused string
	// Next are the states that may follow.
	Next []State
	// Accepts are the operations that may be asked for while the machine rests
	// here; those in FailedAccepts after a failure here.
	Accepts       []OperationKind
	FailedAccepts []OperationKind
}

// Table is the lifecycle, whole. The order is that of a machine's life; the
// picture in docs/ is drawn from it.
var Table = []Rule{
	{
		State:         Enrolled,
		Sentence:      "Seen on the network and not yet approved. It runs the agent and gets nothing else.",
		Next:          []State{Commissioning, Broken},
		Accepts:       []OperationKind{OperationCommission, OperationPower},
		FailedAccepts: []OperationKind{OperationCommission, OperationPower},
	},
	{
		State:    Commissioning,
		Sentence: "The agent takes the inventory and tests the hardware.",
		Passing:  true, Limit: 30 * time.Minute, TimeoutReason: ReasonDeadline,
		CancelTo:      Enrolled,
		Next:          []State{Ready, Enrolled, Broken},
		FailedAccepts: []OperationKind{OperationCommission, OperationPower},
	},
	{
		State:         Ready,
		Sentence:      "Inventoried, tested and free. Its agent is resident, so that a deploy needs no power-on self-test.",
		Next:          []State{Allocated, Commissioning, Deploying, Broken},
		Accepts:       []OperationKind{OperationCommission, OperationDeploy, OperationPower},
		FailedAccepts: []OperationKind{OperationCommission, OperationDeploy, OperationPower},
	},
	{
		State:         Allocated,
		Sentence:      "Given to an owner who has not yet asked for an image.",
		Next:          []State{Deploying, Releasing, Broken},
		Accepts:       []OperationKind{OperationDeploy, OperationRelease, OperationPower},
		FailedAccepts: []OperationKind{OperationDeploy, OperationRelease, OperationPower},
	},
	{
		State:    Deploying,
		Sentence: "An image is being written and booted; it ends with the installed system's own report.",
		Passing:  true, Limit: 60 * time.Minute, TimeoutReason: ReasonDeadline,
		CancelTo:      Ready,
		Next:          []State{Deployed, Ready, Releasing, Commissioning, Broken},
		FailedAccepts: []OperationKind{OperationDeploy, OperationRelease, OperationCommission, OperationPower},
	},
	{
		State:         Deployed,
		Sentence:      "The image is on the disk, verified, and the installed system runs.",
		Next:          []State{Deploying, Releasing, Broken},
		Accepts:       []OperationKind{OperationDeploy, OperationRelease, OperationPower},
		FailedAccepts: []OperationKind{OperationDeploy, OperationRelease, OperationPower},
	},
	{
		State:    Releasing,
		Sentence: "On its way back into the agent, to be erased.",
		Passing:  true, Limit: 30 * time.Minute, TimeoutReason: ReasonDeadline,
		CancelRefused: "the installed system may be stopped already; let the release end, or deploy again after it",
		Next:          []State{Erasing, Commissioning, Broken},
		FailedAccepts: []OperationKind{OperationRelease, OperationCommission, OperationPower},
	},
	{
		State:    Erasing,
		Sentence: "Its disks are being erased; a receipt is kept for each.",
		Passing:  true, Limit: 24 * time.Hour, TimeoutReason: ReasonDeadline,
		CancelRefused: "an erase cannot be undone; a half-erased machine must not become ready",
		Next:          []State{Ready, Commissioning, Broken},
		FailedAccepts: []OperationKind{OperationRelease, OperationCommission, OperationPower},
	},
	{
		State:         Broken,
		Sentence:      "Set aside, with a reason. Nothing is done to it until a person acts.",
		Next:          []State{Commissioning, Releasing, Enrolled},
		Accepts:       []OperationKind{OperationCommission, OperationRelease, OperationPower},
		FailedAccepts: []OperationKind{OperationCommission, OperationRelease, OperationPower},
	},
}

// RuleOf finds the row of a state; ok is false for a word that is no state.
func RuleOf(s State) (rule Rule, ok bool) {
	for _, r := range Table {
		if r.State == s {
			return r, true
		}
	}
	return Rule{}, false
}

// MayFollow reports whether a machine in state from may go to state to.
func MayFollow(from, to State) bool {
	rule, _ := RuleOf(from)
	for _, next := range rule.Next {
		if next == to {
			return true
		}
	}
	return false
}

// Accepts reports whether an operation may be asked for now.
func (m Machine) Accepts(kind OperationKind) bool {
	rule, _ := RuleOf(m.State)
	list := rule.Accepts
	if m.Outcome == OutcomeFailed || m.Outcome == OutcomeCancelled {
		list = rule.FailedAccepts
	}
	for _, k := range list {
		if k == kind {
			return true
		}
	}
	return false
}
