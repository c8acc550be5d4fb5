package store_test

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

// Taken back is what nobody carries out: not begun, or begun by a controller whose
// claim ran out.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{bmcOrder(snap, "power-off", machine.BMCOff)}})
	o, err := s.OrderClaimForBMC(t.Context(), "c1", time.Minute)
	if err != nil || o == nil {
		t.Fatalf("got %v, %v", o, err)
	}
	withdraw := func() machine.OrderState {
		t.Helper()
		snap := claimOneAfterNudge(t, s, m.ID)
		save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Withdraw: []int64{o.ID}})
		got, err := s.OrderGet(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got.State
	}
	if got := withdraw(); got != machine.OrderDelivered {
		t.Errorf("while it is carried out: got %s", got)
	}
	storetest.ClockHold(t, s, epoch.Add(2*time.Minute))
	if got := withdraw(); got != machine.OrderSuperseded {
		t.Errorf("after its claim ran out: got %s", got)
	}
}
