package lifecycle_test

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/lifecycle"
	"github.com/ingot-metal/ingot/controller/machine"
)

var (
	commissionWish = machine.Wish{Commission: &machine.CommissionWish{}}
	deployWish     = machine.Wish{Deploy: &machine.DeployWish{ImageDigest: "sha256:1", Disk: "S1", Proof: machine.ProofReport}}
	releaseWish    = machine.Wish{Release: &machine.ReleaseWish{DiskSerials: []string{"S1", "S2"}}}
)

// TestWholeCircle walks a machine from its first power-on back to ready: one
// power-on until the proof, and one more for the release.
func TestWholeCircle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	for _, step := range []struct {
		kind     machine.OperationKind
		wish     machine.Wish
		state    machine.State
		powerOns int
	}{
		{machine.OperationCommission, commissionWish, machine.Ready, 1},
		{machine.OperationDeploy, deployWish, machine.Deployed, 1},
		{machine.OperationDeploy, deployWish, machine.Deployed, 2},
		{machine.OperationRelease, releaseWish, machine.Ready, 3},
		{machine.OperationDeploy, deployWish, machine.Deployed, 3},
	} {
		w.ask(step.kind, step.wish)
		end := w.run(2 * time.Hour)
		if end.Reason != machine.ReasonNone || w.m.State != step.state {
			t.Fatalf("%s: got %s, %s (%s), want %s", step.kind, w.m.State, end.Reason, end.Detail, step.state)
		}
		if w.powerOns != step.powerOns {
			t.Errorf("%s: got %d power-ons, want %d", step.kind, w.powerOns, step.powerOns)
		}
	}
}

// TestSeededFaults pulls plugs and takes BMCs away at random. Every operation
// must end, well or with a named cause; nothing is given twice and no
// impossible state is entered (the world checks).
func TestSeededFaults(t *testing.T) {
	t.Parallel()
	const seeds = 2000
	arrived := 0
	for seed := range uint64(seeds) {
		w := newWorld(t, seed)
		for _, ask := range []struct {
			kind machine.OperationKind
			wish machine.Wish
		}{{machine.OperationCommission, commissionWish}, {machine.OperationDeploy, deployWish}, {machine.OperationRelease, releaseWish}} {
			if !w.m.Accepts(ask.kind) {
				break
			}
			w.plugsLeft = w.rand.IntN(3)
			w.bmcDownTill = w.now.Add(time.Duration(w.rand.IntN(20)) * time.Second)
			w.ask(ask.kind, ask.wish)
			end := w.run(3 * time.Hour)
			if end.Outcome == machine.OutcomeFailed && !machine.Known(end.Reason) {
				t.Fatalf("seed %d: %s failed without a named cause: %+v", seed, ask.kind, end)
			}
			if end.Reason == machine.ReasonNone {
				arrived++
			}
		}
	}
	// A pulled plug or a BMC that is away for seconds needs no person.
	if got, want := arrived, seeds*3*9/10; got < want {
		t.Errorf("%d of %d operations arrived, want at least %d", got, seeds*3, want)
	}
}

func TestCancelBeforeWritingFreesTheMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.ask(machine.OperationCommission, commissionWish)
	w.run(time.Hour)
	w.ask(machine.OperationDeploy, deployWish)
	w.turn()
	w.turn()
	w.op.CancelAsked, w.wakeAt = true, w.now
	if end := w.run(time.Minute); end.To != machine.Ready || end.Outcome != machine.OutcomeCancelled {
		t.Errorf("cancelled before the order was delivered: got %+v, want ready", end)
	}
	w.ask(machine.OperationDeploy, deployWish)
	w.agentHangs = true
	for range 5 {
		w.turn()
		w.act()
		w.now = w.now.Add(time.Second)
	}
	if got, want := w.orders[0].State, machine.OrderDelivered; got != want {
		t.Fatalf("order: got %s, want %s", got, want)
	}
	w.op.CancelAsked, w.wakeAt = true, w.now
	if end := w.run(time.Minute); end.To != machine.Deploying {
		t.Errorf("cancelled while writing: got %+v, want to stay in deploying: it must not look free", end)
	}
}

func TestUnapprovedGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.m.Approved = false
	w.ask(machine.OperationCommission, commissionWish)
	if end := w.run(time.Minute); end.Reason != machine.ReasonNotApproved || len(w.given) != 0 {
		t.Errorf("got %+v with %d orders, want not_approved and none", end, len(w.given))
	}
}

// TestEveryStateDecides asks for every operation in every state: each must give
// a decision and none may panic.
func TestEveryStateDecides(t *testing.T) {
	t.Parallel()
	for _, rule := range machine.Table {
		for _, kind := range []machine.OperationKind{machine.OperationCommission, machine.OperationDeploy, machine.OperationRelease, machine.OperationPower} {
			s := machine.Snapshot{
				Now:       time.Now(),
				Machine:   machine.Machine{State: rule.State, Approved: true, AgentOnline: true, BMC: &machine.BMC{URL: "ipmi://x"}},
				Operation: &machine.Operation{Kind: kind, State: machine.OperationRunning, Wish: machine.Wish{Commission: commissionWish.Commission, Deploy: deployWish.Deploy, Release: releaseWish.Release, Power: &machine.PowerWish{Action: "query"}}},
			}
			if d := lifecycle.Decide(s); d.Wait == nil && d.Go == nil && d.End == nil {
				t.Errorf("%s, %s: no decision", rule.State, kind)
			}
		}
	}
}

// TestReleaseAwaitsNoAgentOfADeployedMachine: its agent left on purpose, a
// moment ago; the power is looked at in the first turns.
func TestReleaseAwaitsNoAgentOfADeployedMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	w.ask(machine.OperationCommission, commissionWish)
	w.run(time.Hour)
	w.ask(machine.OperationDeploy, deployWish)
	w.run(time.Hour)
	w.now = w.now.Add(time.Second)
	w.m.AgentSeenAt = w.now.Add(-5 * time.Second)
	w.ask(machine.OperationRelease, releaseWish)
	begun := w.now
	for w.given["op-3/power-off/1"] == 0 {
		if w.now.Sub(begun) > 10*time.Second {
			t.Fatalf("after %s: %s, phase %q", w.now.Sub(begun), w.m.State, w.op.Phase)
		}
		w.turn()
		w.act()
		w.now = w.now.Add(time.Second)
	}
}
