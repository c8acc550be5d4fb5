package store_test

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

// TestRestartedControllerWaitsForNothing that its former run held.
func TestRestartedControllerWaitsForNothing(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}})
	snap = claimOne(t, s)
	save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{bmcOrder(snap, "power-on", machine.BMCOn)}})
	first, err := s.OrderClaimForBMC(t.Context(), "c1", 4*time.Minute)
	if err != nil || first == nil {
		t.Fatalf("got %v, %v", first, err)
	}
	if err := s.MachineNudge(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	stale := claimOne(t, s)
	storetest.ClockHold(t, s, epoch.Add(time.Second)) // killed, and started again
	if err := s.ControllerStart(t.Context(), "c1", "here"); err != nil {
		t.Fatal(err)
	}
	claimOne(t, s)
	wantKind(t, s.DecisionSave(t.Context(), stale, machine.Decision{Wait: wait(time.Hour, stale)}), fault.Stale)
	again, err := s.OrderClaimForBMC(t.Context(), "c1", 4*time.Minute)
	if err != nil || again == nil || again.ID != first.ID {
		t.Fatalf("got %v, %v, want order %d again", again, err, first.ID)
	}
	first.State = machine.OrderSucceeded
	wantKind(t, s.OrderFinish(t.Context(), *first), fault.Stale)
}

// power carries a wish for power to an end.
func power(t *testing.T, s *store.Store, id machine.ID, end machine.End) machine.Machine {
	t.Helper()
	if _, err := s.OperationCreate(t.Context(), id, machine.OperationPower, machine.Wish{Power: &machine.PowerWish{Action: "query"}}, "", "alice"); err != nil {
		t.Fatal(err)
	}
	snap := claimOne(t, s)
	end.To = snap.Machine.State
	save(t, s, snap, machine.Decision{End: &end})
	return get(t, s, id)
}

// TestPowerAndStandingFailures: a wish for power neither mends nor hides what
// went wrong with the machine, and mends what an earlier one left.
func TestPowerAndStandingFailures(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	good := machine.End{Outcome: machine.OutcomeNone}
	bad := machine.End{Outcome: machine.OutcomeFailed, Reason: machine.ReasonBMCCredentials}
	cancelled := machine.End{Outcome: machine.OutcomeCancelled, Reason: machine.ReasonCancelled}
	for i, step := range []struct {
		state  machine.State
		stands machine.Reason
		end    machine.End
		want   machine.Reason
	}{
		{machine.Deployed, "", bad, machine.ReasonBMCCredentials},
		{machine.Deployed, machine.ReasonBMCCredentials, cancelled, machine.ReasonBMCCredentials},
		{machine.Deployed, machine.ReasonBMCCredentials, good, ""},
		{machine.Deploying, machine.ReasonSystemSilent, bad, machine.ReasonSystemSilent},
		{machine.Deploying, machine.ReasonSystemSilent, good, machine.ReasonSystemSilent},
		{machine.Deploying, machine.ReasonSystemSilent, cancelled, machine.ReasonSystemSilent},
		{machine.Broken, machine.ReasonNonceOtherKey, good, machine.ReasonNonceOtherKey},
	} {
		storetest.ClockHold(t, s, epoch.Add(time.Duration(i)*time.Minute))
		outcome := machine.OutcomeFailed
		if step.stands == "" {
			outcome = machine.OutcomeNone
		}
		storetest.Exec(t, s, "UPDATE machine SET state = '"+string(step.state)+"', outcome = '"+string(outcome)+"', reason = '"+string(step.stands)+"'")
		got := power(t, s, m.ID, step.end)
		if failed := got.Outcome == machine.OutcomeFailed; got.Reason != step.want || failed != (step.want != "") {
			t.Errorf("%s (%s), power ends %s: got %s %s, want %q", step.state, step.stands, step.end.Outcome, got.Outcome, got.Reason, step.want)
		}
	}
}

// TestDatabaseAwayLeavesAgentsOnline: the first turn after the database was away
// comes before the next heartbeat, and must not see the agents as gone.
func TestDatabaseAwayLeavesAgentsOnline(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	if err := s.ControllerStart(t.Context(), "c1", "one"); err != nil {
		t.Fatal(err)
	}
	claim := bootUp(t, s, mac(1), "")
	if _, _, err := s.AgentOnline(t.Context(), m.ID, claim.BootGeneration, "c1"); err != nil {
		t.Fatal(err)
	}
	storetest.ClockHold(t, s, epoch.Add(time.Minute))
	if snap := claimOne(t, s); !snap.Machine.AgentOnline {
		t.Error("the agent looks offline in the first turn after a minute without the database")
	}
}
