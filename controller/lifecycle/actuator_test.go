package lifecycle

import (
	"fmt"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
)

// A BMC that is left alone because of its password is a matter of the password,
// every time it is asked.
func TestReasonOfTheCause(t *testing.T) {
	t.Parallel()
	refused := &power.Error{Kind: power.ErrCredentials, BMC: "ipmi://bmc"}
	alone := fmt.Errorf("power on: %w", &power.Error{Kind: power.ErrBusy, BMC: "ipmi://bmc", Err: refused})
	for range 50 {
		if got := reasonOf(alone); got != machine.ReasonBMCCredentials {
			t.Fatalf("got %s, want %s", got, machine.ReasonBMCCredentials)
		}
	}
	if got := reasonOf(&power.Error{Kind: power.ErrBusy}); got != machine.ReasonBMCUnreachable {
		t.Errorf("busy alone: got %s, want %s", got, machine.ReasonBMCUnreachable)
	}
}
