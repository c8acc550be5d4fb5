package machine_test

import (
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	for _, rule := range machine.Table {
		if rule.Sentence == "" {
			t.Errorf("%s: no sentence for a person", rule.State)
		}
		if rule.Passing && (rule.Limit <= 0 || !machine.Known(rule.TimeoutReason)) {
			t.Errorf("%s: passes without a limit or a reason on timeout", rule.State)
		}
		if rule.Passing && rule.CancelTo == "" && rule.CancelRefused == "" {
			t.Errorf("%s: passes and does not say how it is cancelled", rule.State)
		}
		if rule.CancelTo != "" && !machine.MayFollow(rule.State, rule.CancelTo) {
			t.Errorf("%s: cancelling goes to %s, which may not follow", rule.State, rule.CancelTo)
		}
		if rule.Passing && len(rule.FailedAccepts) == 0 {
			t.Errorf("%s: a machine that failed here accepts nothing: stuck", rule.State)
		}
		for _, next := range rule.Next {
			if _, ok := machine.RuleOf(next); !ok {
				t.Errorf("%s: next state %s is not in the table", rule.State, next)
			}
		}
		if got := machine.MAASStatus(rule.State, machine.OutcomeFailed); got == "" {
			t.Errorf("%s: no MAAS status", rule.State)
		}
	}
}

// TestWhatIsAcceptedCanBeEntered: an operation that a state accepts is worked on
// in a state that may follow.
func TestWhatIsAcceptedCanBeEntered(t *testing.T) {
	t.Parallel()
	enters := map[machine.OperationKind]machine.State{
		machine.OperationCommission: machine.Commissioning, machine.OperationDeploy: machine.Deploying, machine.OperationRelease: machine.Releasing,
	}
	for _, rule := range machine.Table {
		for _, kind := range append(append([]machine.OperationKind{}, rule.Accepts...), rule.FailedAccepts...) {
			if rule.State == machine.Erasing && kind == machine.OperationRelease {
				continue // goes on where it is
			}
			if to, moves := enters[kind]; moves && to != rule.State && !machine.MayFollow(rule.State, to) {
				t.Errorf("%s accepts %s, and %s may not follow", rule.State, kind, to)
			}
		}
	}
}

func TestCatalogueIsWhole(t *testing.T) {
	t.Parallel()
	seen := map[machine.Reason]bool{}
	for _, c := range machine.Catalogue {
		if seen[c.Reason] {
			t.Errorf("%s: twice in the catalogue", c.Reason)
		}
		seen[c.Reason] = true
		if c.Sentence == "" || c.Next == "" {
			t.Errorf("%s: lacks a sentence or a next step", c.Reason)
		}
	}
	if machine.Known("no such reason") {
		t.Error("an unknown code counts as known")
	}
}
