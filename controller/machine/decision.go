package machine

import "time"

// Snapshot is all that a decision may look at: one machine, its operation and
// that operation's orders, read in one transaction, under a lease.
type Snapshot struct {
	Now       time.Time
	Machine   Machine
	Operation *Operation // nil: nothing was ever asked
	Orders    []Order    // of the operation, oldest first
	// BootSeenAt is the last sign of this machine's loader on the network, with
	// what it was.
	BootSeenAt   time.Time
	BootSeenWhat string
}

// Decision is what a handler returns: the one outcome, and what goes with it
// into the same transaction. Exactly one of Wait, Go and End is set.
type Decision struct {
	Wait *Wait
	Go   *Go
	End  *End

	Orders           []Order      // to be given
	Withdraw         []int64      // orders to be taken back, but for those that somebody is carrying out
	Steps            []StepRecord // to be added or brought up to date, by name
	Phase            string       // of the operation, for a person
	Events           []Event
	Warnings         []Warning   // added to the machine's
	Deployed         *Deployment // replaces the machine's, when set
	ForgetDeployment bool        // the system on the disk is gone
	Power            PowerState  // replaces the machine's, when set
	Receipts         []EraseReceipt
}

// Wait stays in the state; the machine is looked at again at Until, or sooner
// when something happens to it.
type Wait struct {
	For   string
	Until time.Time
}

// Go moves to another state; its operation goes on.
type Go struct{ To State }

// End finishes the operation: in To (which may be the present state) with an
// outcome. A zero Reason is success. When there is no operation under way, only
// the machine changes.
type End struct {
	To      State
	Outcome Outcome
	Reason  Reason
	Detail  string
}

// Event is one line of a machine's history, before it has its sequence.
type Event struct {
	Kind   string
	Text   string
	Detail map[string]string
}

// Kinds of event.
const (
	EventState     = "state"
	EventOperation = "operation"
	EventStep      = "step"
	EventBoot      = "boot"
	EventPower     = "power"
	EventAgent     = "agent"
	EventTest      = "test"
	EventWarning   = "warning"
	EventAudit     = "audit"
)
