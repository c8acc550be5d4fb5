//go:build vm

package scenario

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

// TestBMCHangs: a BMC that takes requests and answers none for a while costs
// time and nothing else.
func TestBMCHangs(t *testing.T) {
	r := newRig(t, "diskless")
	r.ready()
	op, err := machines().MachinePower(t.Context(), &operator.MachinePowerRequest{Machine: r.id, Action: operator.PowerAction_POWER_ACTION_OFF})
	if err != nil {
		t.Fatal(err)
	}
	r.succeeds(op)
	r.Faults.Set(fault.Faults{IPMIHang: true})
	defer r.Faults.Set(fault.Faults{})
	seen := len(r.events())
	op, err = machines().MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: r.id})
	if err != nil {
		t.Fatal(err)
	}
	r.eventAfter(seen, "power-query")
	pause(t.Context(), 45*time.Second) // the fault itself lasts so long: longer than one call
	if m := r.get(); m.GetOutcome() != "running" {
		t.Errorf("while its BMC hangs the machine is %s (%s): %s", m.GetState(), m.GetOutcome(), m.GetReasonText())
	}
	r.Faults.Set(fault.Faults{})
	r.succeeds(op)
	r.is("ready")
}
