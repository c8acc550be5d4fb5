package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func TestOperationCreate(t *testing.T) {
	t.Parallel()
	s := held(t)
	power := machine.Wish{Power: &machine.PowerWish{Action: "on"}}
	unknown := bootUp(t, s, mac(9), "")
	_, err := s.OperationCreate(t.Context(), unknown.MachineID, machine.OperationPower, power, "", "alice")
	wantKind(t, err, fault.Precondition) // not approved
	m := added(t, s, mac(1))
	_, err = s.OperationCreate(t.Context(), m.ID, machine.OperationRelease, machine.Wish{Release: &machine.ReleaseWish{}}, "", "alice")
	wantKind(t, err, fault.Precondition) // an enrolled machine has nothing to release
	_, err = s.OperationCreate(t.Context(), m.ID, machine.OperationRelease, power, "", "alice")
	wantKind(t, err, fault.Invalid)
	o, err := s.OperationCreate(t.Context(), m.ID, machine.OperationPower, power, "request-1", "alice")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.OperationCreate(t.Context(), m.ID, machine.OperationPower, power, "request-1", "alice")
	if err != nil || again.ID != o.ID {
		t.Errorf("the same request again: got %s, %v, want %s", again.ID, err, o.ID)
	}
	_, err = s.OperationCreate(t.Context(), m.ID, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, "request-1", "alice")
	wantKind(t, err, fault.Exists)
	_, err = s.OperationCreate(t.Context(), m.ID, machine.OperationPower, power, "request-2", "alice")
	wantKind(t, err, fault.Precondition) // one at a time
	if got := get(t, s, m.ID); got.WishGeneration != 1 || got.OperationID != o.ID {
		t.Errorf("got wish %d, operation %s", got.WishGeneration, got.OperationID)
	}
}

func TestParallelWishesMakeOneOperation(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m := added(t, s, mac(1))
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 16 {
		wg.Go(func() {
			_, err := s.OperationCreate(t.Context(), m.ID, machine.OperationPower, machine.Wish{Power: &machine.PowerWish{Action: "on"}}, "", "alice")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else {
				wantKind(t, err, fault.Precondition)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("got %d operations, want 1", made)
	}
}

func TestDecisionSave(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	bootUp(t, s, mac(1), "")
	o := commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Events: []machine.Event{{Kind: machine.EventState, Text: "go"}}})
	got := get(t, s, m.ID)
	if got.State != machine.Commissioning || got.Outcome != machine.OutcomeRunning || !got.DeadlineAt.Equal(epoch.Add(30*time.Minute)) {
		t.Fatalf("got %s, %s, deadline %s", got.State, got.Outcome, got.DeadlineAt)
	}
	storetest.ClockHold(t, s, epoch.Add(time.Minute))
	snap = claimOne(t, s) // a move is looked at again at once
	d := machine.Decision{Wait: wait(time.Hour, snap), Phase: "inventory", Orders: []machine.Order{agentOrder(snap, "commission", 1)},
		Steps: []machine.StepRecord{{Name: "commission", State: machine.StepIntended}}, Warnings: []machine.Warning{{Code: "x", Text: "y"}}}
	save(t, s, snap, d)
	if list, _ := s.MachineClaim(t.Context(), "c1", time.Minute, 10); len(list) != 0 {
		t.Fatalf("got %d machines due while it waits, want none", len(list))
	}
	if got = get(t, s, m.ID); !got.DeadlineAt.Equal(epoch.Add(30 * time.Minute)) {
		t.Errorf("waiting moved the deadline to %s", got.DeadlineAt)
	}
	if err := s.MachineNudge(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	snap = claimOne(t, s)
	if len(snap.Orders) != 1 || snap.Orders[0].LeaseToken != 2 || snap.Operation.State != machine.OperationRunning || snap.Operation.Phase != "inventory" {
		t.Errorf("got orders %+v, operation %+v", snap.Orders, snap.Operation)
	}
	d.Wait = wait(time.Hour, snap)
	save(t, s, snap, d) // the same order again counts once
	_ = s.MachineNudge(t.Context(), m.ID)
	snap = claimOne(t, s)
	if len(snap.Orders) != 1 || len(snap.Machine.Warnings) != 1 || len(snap.Operation.Steps) != 1 {
		t.Errorf("got %d orders, %d warnings, %d steps, want 1 of each", len(snap.Orders), len(snap.Machine.Warnings), len(snap.Operation.Steps))
	}
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Ready, Outcome: machine.OutcomeNone}})
	got = get(t, s, m.ID)
	if o, _ = s.OperationGet(t.Context(), o.ID); got.State != machine.Ready || !got.DeadlineAt.IsZero() || o.State != machine.OperationSucceeded || o.FinishedAt.IsZero() {
		t.Errorf("got %s, deadline %s, operation %s", got.State, got.DeadlineAt, o.State)
	}
	if order, _ := s.OrderGet(t.Context(), snap.Orders[0].ID); order.State != machine.OrderSuperseded {
		t.Errorf("got order %s after the end, want superseded", order.State)
	}
}

func TestDecisionSaveRefuses(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	wantKind(t, s.DecisionSave(t.Context(), snap, machine.Decision{Go: &machine.Go{To: machine.Deployed}}), fault.Invalid)
	wantKind(t, s.DecisionSave(t.Context(), snap, machine.Decision{}), fault.Invalid)
	// The holder is gone for longer than its lease; another takes over.
	storetest.ClockHold(t, s, epoch.Add(time.Minute))
	later := claimOne(t, s)
	if later.Machine.LeaseToken != snap.Machine.LeaseToken+1 {
		t.Errorf("got token %d after %d", later.Machine.LeaseToken, snap.Machine.LeaseToken)
	}
	wantKind(t, s.DecisionSave(t.Context(), snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}}), fault.Stale)
	if got := get(t, s, m.ID); got.State != machine.Enrolled {
		t.Errorf("a stale decision changed the state to %s", got.State)
	}
	// A new boot moves the ground: the decision is refused and the machine is due.
	bootUp(t, s, mac(1), "")
	wantKind(t, s.DecisionSave(t.Context(), later, machine.Decision{Go: &machine.Go{To: machine.Commissioning}}), fault.Stale)
	claimOne(t, s)
}

// A nudge that comes while the machine is being decided about is not lost.
func TestNudgeDuringATurn(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	snap := claimOne(t, s)
	if err := s.MachineNudge(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap)})
	claimOne(t, s)
}

func TestParallelClaimsNeverShareAMachine(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	for i := range 20 {
		added(t, s, mac(byte(i)))
	}
	var mu sync.Mutex
	holder := map[machine.ID]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				list, err := s.MachineClaim(t.Context(), "c", time.Minute, 5)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, snap := range list {
					holder[snap.Machine.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(holder) != 20 {
		t.Errorf("got %d machines, want 20", len(holder))
	}
	for id, n := range holder {
		if n != 1 {
			t.Errorf("machine %s was leased %d times at once", id, n)
		}
	}
}

func TestReaper(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	bootUp(t, s, mac(1), "")
	o := commission(t, s, m.ID)
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Commissioning}})
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Wait: wait(time.Second, snap), Phase: "agent", Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
	if err := s.MachineTimeout(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, m.ID); got.Outcome != machine.OutcomeRunning {
		t.Fatalf("a machine within its limit was timed out: %s", got.Outcome)
	}
	storetest.ClockHold(t, s, epoch.Add(31*time.Minute))
	ids, err := s.MachineOverdue(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != m.ID {
		t.Fatalf("got %v, %v, want %s", ids, err, m.ID)
	}
	snap = claimOne(t, s) // the engine is at it, or hangs
	if err := s.MachineTimeout(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	got := get(t, s, m.ID)
	o, _ = s.OperationGet(t.Context(), o.ID)
	if got.Outcome != machine.OutcomeFailed || got.Reason != machine.ReasonDeadline || got.State != machine.Commissioning || o.State != machine.OperationFailed {
		t.Errorf("got %s, %s, %s, operation %s", got.State, got.Outcome, got.Reason, o.State)
	}
	if want := "commissioning lasted longer than 30m0s; it waited for: agent"; got.Detail != want {
		t.Errorf("got detail %q, want %q", got.Detail, want)
	}
	wantKind(t, s.DecisionSave(t.Context(), snap, machine.Decision{Wait: wait(time.Second, snap)}), fault.Stale)
	if ids, _ := s.MachineOverdue(t.Context()); len(ids) != 0 {
		t.Errorf("got %v overdue after the timeout", ids)
	}
}

// A wish for power leaves a failure that stands as it is, and is a success.
func TestPowerLeavesAFailure(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Enrolled, Outcome: machine.OutcomeFailed, Reason: machine.ReasonNoAgent, Detail: "why"}})
	o, err := s.OperationCreate(t.Context(), m.ID, machine.OperationPower, machine.Wish{Power: &machine.PowerWish{Action: "off"}}, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	snap = claimOne(t, s)
	save(t, s, snap, machine.Decision{Wait: wait(0, snap), Orders: []machine.Order{bmcOrder(snap, "power-off", machine.BMCOff)}})
	snap = claimOne(t, s)
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Enrolled, Outcome: machine.OutcomeNone}, Power: machine.PowerOff})
	got := get(t, s, m.ID)
	if o, _ = s.OperationGet(t.Context(), o.ID); o.State != machine.OperationSucceeded {
		t.Errorf("got operation %s", o.State)
	}
	if got.Outcome != machine.OutcomeFailed || got.Reason != machine.ReasonNoAgent || got.PowerState != machine.PowerOff {
		t.Errorf("got %s, %s, power %s", got.Outcome, got.Reason, got.PowerState)
	}
}

func TestBMCOrders(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{bmcOrder(snap, "power-off", machine.BMCOff)}})
	var audited int
	storetest.Row(t, s, `SELECT count(*) FROM machine_order o JOIN audit a ON a.id = o.audit_id WHERE a.action = 'bmc.off' AND a.detail->>'cause' = 'because'`, nil, &audited)
	if audited != 1 {
		t.Errorf("got %d audit rows for the power action, want 1", audited)
	}
	first, err := s.OrderClaimForBMC(t.Context(), "c1", time.Minute)
	if err != nil || first == nil || first.Job.BMC.Action != machine.BMCOff {
		t.Fatalf("got %+v, %v", first, err)
	}
	if second, err := s.OrderClaimForBMC(t.Context(), "c2", time.Minute); err != nil || second != nil {
		t.Fatalf("an order under way was claimed again: %+v, %v", second, err)
	}
	storetest.ClockHold(t, s, epoch.Add(2*time.Minute)) // c1 is gone
	second, err := s.OrderClaimForBMC(t.Context(), "c2", time.Minute)
	if err != nil || second == nil || second.ID != first.ID {
		t.Fatalf("got %+v, %v, want the order again", second, err)
	}
	first.State, second.State = machine.OrderSucceeded, machine.OrderSucceeded
	wantKind(t, s.OrderFinish(t.Context(), *first), fault.Stale)
	second.Result = machine.Result{Power: machine.PowerOff, Evidence: "read back"}
	for range 2 {
		if err := s.OrderFinish(t.Context(), *second); err != nil {
			t.Fatal(err)
		}
	}
	snap = claimOne(t, s)
	if o := snap.Orders[0]; o.State != machine.OrderSucceeded || o.Result.Evidence != "read back" || o.FinishedAt.IsZero() {
		t.Errorf("got %+v", o)
	}
}

// While an old order's call may still run, a newer order of the same BMC waits,
// though the old one is superseded.
func TestBMCOrdersOneAtATime(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{bmcOrder(snap, "power-off", machine.BMCOff)}})
	old, _ := s.OrderClaimForBMC(t.Context(), "c1", time.Minute)
	snap = claimOne(t, s)
	save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{bmcOrder(snap, "power-on", machine.BMCOn)}})
	if o, err := s.OrderClaimForBMC(t.Context(), "c2", time.Minute); err != nil || o != nil {
		t.Fatalf("got %+v, %v while the old call may run, want none", o, err)
	}
	old.State = machine.OrderSucceeded
	wantKind(t, s.OrderFinish(t.Context(), *old), fault.Stale)
	if o, err := s.OrderClaimForBMC(t.Context(), "c2", time.Minute); err != nil || o == nil || o.Step != "power-on" {
		t.Fatalf("got %+v, %v, want the newer order", o, err)
	}
}

// A controller ends an agent's order that it cannot make; one of an older boot it
// cannot end.
func TestOrderFinishForAgent(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	bootUp(t, s, mac(1), "")
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
	list, err := s.OrderPendingForAgent(t.Context(), m.ID, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	o := list[0]
	o.State, o.Reason, o.Detail = machine.OrderFailed, "a word of the future", "no such image"
	older := o
	older.BootGeneration = 0
	wantKind(t, s.OrderFinish(t.Context(), older), fault.Stale)
	if err := s.OrderFinish(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.OrderGet(t.Context(), o.ID); got.State != machine.OrderFailed || got.Reason != machine.ReasonUnknown || got.Detail != "a word of the future: no such image" {
		t.Errorf("got %s, %s, %q", got.State, got.Reason, got.Detail)
	}
}

func TestOrdersNeedApproval(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	storetest.Exec(t, s, "UPDATE machine SET approved = false")
	wantKind(t, s.DecisionSave(t.Context(), snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{bmcOrder(snap, "power-on", machine.BMCOn)}}), fault.Denied)
	var orders int
	storetest.Row(t, s, "SELECT count(*) FROM machine_order", nil, &orders)
	if orders != 0 {
		t.Errorf("got %d orders for a machine that is not approved", orders)
	}
}

func TestOperationCancel(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	o := commission(t, s, m.ID)
	for range 2 {
		got, err := s.OperationCancel(t.Context(), o.ID, "alice")
		if err != nil || !got.CancelAsked {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Enrolled, Outcome: machine.OutcomeCancelled, Reason: machine.ReasonCancelled}})
	_, err := s.OperationCancel(t.Context(), o.ID, "alice")
	wantKind(t, err, fault.Precondition)
	if o, _ = s.OperationGet(t.Context(), o.ID); o.State != machine.OperationCancelled {
		t.Errorf("got %s", o.State)
	}
	_, err = s.OperationCancel(t.Context(), "op-nosuch", "alice")
	wantKind(t, err, fault.NotFound)
	storetest.Exec(t, s, "UPDATE machine SET state = 'erasing', outcome = 'failed', reason = 'deadline_passed'")
	o, err = s.OperationCreate(t.Context(), m.ID, machine.OperationRelease, machine.Wish{Release: &machine.ReleaseWish{}}, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOne(t, s), machine.Decision{Wait: &machine.Wait{For: "x", Until: epoch}})
	_, err = s.OperationCancel(t.Context(), o.ID, "alice")
	wantKind(t, err, fault.Precondition) // an erase cannot be left half-way
	if got := get(t, s, m.ID); got.Outcome != machine.OutcomeRunning || !got.DeadlineAt.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("a repeated erase: got %s, deadline %s", got.Outcome, got.DeadlineAt)
	}
}
