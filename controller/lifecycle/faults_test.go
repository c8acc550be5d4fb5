package lifecycle_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/controller/lifecycle"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/fault"
)

// TestCancelNeverFreesAnOwnersDisk: only a machine that the operation found free,
// and whose disk it has not touched, becomes free by a cancel.
func TestCancelNeverFreesAnOwnersDisk(t *testing.T) {
	t.Parallel()
	began := func(in machine.State) []machine.StepRecord {
		return []machine.StepRecord{{Name: "begin", State: machine.StepDone, Detail: string(in)}}
	}
	for _, tt := range []struct {
		name  string
		kind  machine.OperationKind
		state machine.OperationState
		steps []machine.StepRecord
		want  machine.State
	}{
		{"deploy of a ready machine", machine.OperationDeploy, machine.OperationRunning, began(machine.Ready), machine.Ready},
		{"deploy over a deployed system", machine.OperationDeploy, machine.OperationRunning, began(machine.Deployed), machine.Deploying},
		{"deploy again after a failed one", machine.OperationDeploy, machine.OperationRunning, nil, machine.Deploying},
		{"release of a failed deploy, not begun", machine.OperationRelease, machine.OperationPending, nil, machine.Deploying},
		{"power of a failed deploy", machine.OperationPower, machine.OperationRunning, nil, machine.Deploying},
	} {
		d := lifecycle.Decide(machine.Snapshot{
			Now:     time.Now(),
			Machine: machine.Machine{State: machine.Deploying, Outcome: machine.OutcomeFailed, Approved: true, BMC: &machine.BMC{URL: "ipmi://x"}},
			Operation: &machine.Operation{Kind: tt.kind, State: tt.state, CancelAsked: true, Steps: tt.steps,
				Wish: machine.Wish{Deploy: deployWish.Deploy, Release: releaseWish.Release, Power: &machine.PowerWish{Action: "off"}}},
		})
		if d.End == nil || d.End.Outcome != machine.OutcomeCancelled || d.End.To != tt.want {
			t.Errorf("%s: got %+v, want cancelled in %s", tt.name, d.End, tt.want)
		}
	}
}

// TestPowerIsNotCutWhileTheAgentMayComeBack: the controller was away, and the
// agent pauses between two attempts while it writes on.
func TestPowerIsNotCutWhileTheAgentMayComeBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := machine.Snapshot{
		Now:       now,
		Machine:   machine.Machine{State: machine.Deploying, Outcome: machine.OutcomeRunning, Approved: true, AgentSeenAt: now.Add(-40 * time.Second), BMC: &machine.BMC{URL: "ipmi://x"}},
		Operation: &machine.Operation{Kind: machine.OperationDeploy, State: machine.OperationRunning, Wish: deployWish, CreatedAt: now.Add(-5 * time.Minute)},
		Orders: []machine.Order{
			{Step: "deploy", Attempt: 1, Target: machine.TargetAgent, State: machine.OrderDelivered, CreatedAt: now.Add(-4 * time.Minute)},
			{Step: "power-query", Attempt: 1, Target: machine.TargetBMC, State: machine.OrderSucceeded, FinishedAt: now, Result: machine.Result{Power: machine.PowerOn}},
		},
	}
	if d := lifecycle.Decide(s); d.Wait == nil || len(d.Orders) != 0 {
		t.Errorf("forty seconds after it was seen: got orders %+v, want to wait", d.Orders)
	}
	s.Now = now.Add(time.Minute)
	if d := lifecycle.Decide(s); len(d.Orders) != 1 || d.Orders[0].Job.BMC.Action != machine.BMCOff {
		t.Errorf("a hundred seconds after it was seen: got orders %+v, want power off", d.Orders)
	}
}

// TestAgentThatNeverComes is named before any state's deadline.
func TestAgentThatNeverComes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		seen string
		want machine.Reason
	}{{"", machine.ReasonNoAgent}, {"loader_sent: ipxe.efi", machine.ReasonLoaderSilence}, {"initramfs_sent", machine.ReasonNoAgent}} {
		w := newWorld(t, 1)
		w.seenAtBoot = tt.seen
		w.neverBoots = true
		w.ask(machine.OperationCommission, commissionWish)
		rule, _ := machine.RuleOf(machine.Commissioning)
		if end := w.run(rule.Limit); end.Reason != tt.want {
			t.Errorf("last seen %q: got %s (%s), want %s", tt.seen, end.Reason, end.Detail, tt.want)
		}
	}
}

// TestDiskWithoutASerialIsErasedByItsWWN: its receipt is found by that name.
func TestDiskWithoutASerialIsErasedByItsWWN(t *testing.T) {
	t.Parallel()
	d := lifecycle.Decide(machine.Snapshot{
		Now:     time.Now(),
		Machine: machine.Machine{State: machine.Erasing, Outcome: machine.OutcomeRunning, Approved: true, AgentOnline: true},
		Operation: &machine.Operation{Kind: machine.OperationRelease, State: machine.OperationRunning,
			Wish: machine.Wish{Release: &machine.ReleaseWish{DiskSerials: []string{"0x5000c500"}}}},
		Orders: []machine.Order{{Step: "erase", Attempt: 1, Target: machine.TargetAgent, State: machine.OrderSucceeded,
			Result: machine.Result{Erase: []machine.EraseReceipt{{WWN: "0x5000c500", Verified: true}}}}},
	})
	if d.End == nil || d.End.To != machine.Ready {
		t.Errorf("got %+v, want ready", d.End)
	}
}

// TestBMCThatCannotPutTheDiskFirst costs a warning, not the deploy.
func TestBMCThatCannotPutTheDiskFirst(t *testing.T) {
	t.Parallel()
	now := time.Now()
	wish := machine.Wish{Deploy: &machine.DeployWish{ImageDigest: "sha256:1", Proof: machine.ProofNone}}
	d := lifecycle.Decide(machine.Snapshot{
		Now:       now,
		Machine:   machine.Machine{State: machine.Deploying, Outcome: machine.OutcomeRunning, Approved: true, BMC: &machine.BMC{URL: "ipmi://x"}},
		Operation: &machine.Operation{ID: "op-1", Kind: machine.OperationDeploy, State: machine.OperationRunning, Wish: wish},
		Orders: []machine.Order{
			{Step: "deploy", Attempt: 1, Target: machine.TargetAgent, State: machine.OrderSucceeded, FinishedAt: now,
				Result: machine.Result{Deploy: &machine.DeployResult{ImageDigest: "sha256:1", Verified: true, BootPath: "unknown"}}},
			{Step: "boot-disk", Attempt: 1, Target: machine.TargetBMC, State: machine.OrderFailed, Reason: machine.ReasonBMCUnsupported, Detail: "no such flag"},
		},
	})
	if d.End == nil || d.End.To != machine.Deployed || len(d.Warnings) != 1 || d.Deployed == nil || d.Deployed.BootPath != "unknown" {
		t.Errorf("got end %+v, warnings %+v, deployment %+v", d.End, d.Warnings, d.Deployed)
	}
}

// refusing is a store that takes no decision but one that fails the operation.
type refusing struct {
	snap  machine.Snapshot
	saved chan machine.Decision
}

func (r *refusing) MachineClaim(context.Context, string, time.Duration, int) ([]machine.Snapshot, error) {
	snap := r.snap
	r.snap.Machine.ID = ""
	if snap.Machine.ID == "" {
		return nil, nil
	}
	return []machine.Snapshot{snap}, nil
}

func (r *refusing) DecisionSave(_ context.Context, _ machine.Snapshot, d machine.Decision) error {
	if d.End == nil {
		return fault.New(fault.Invalid, "state commissioning may not follow")
	}
	r.saved <- d
	return nil
}

func TestRefusedDecisionEndsTheOperation(t *testing.T) {
	t.Parallel()
	store := &refusing{saved: make(chan machine.Decision, 1), snap: machine.Snapshot{
		Machine:   machine.Machine{ID: "k3f9qa", State: machine.Ready, Approved: true},
		Operation: &machine.Operation{Kind: machine.OperationCommission, State: machine.OperationPending, Wish: commissionWish},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lifecycle.NewEngine(store, "c1", nil, slog.New(slog.DiscardHandler)).Run(ctx) }()
	if d := <-store.saved; d.End.Outcome != machine.OutcomeFailed || d.End.Reason != machine.ReasonUnknown {
		t.Errorf("got %+v, want failed with a cause", d.End)
	}
	cancel()
	<-done
}

// away is a database that is away for some calls, with one order for a BMC.
type away struct {
	order    *machine.Order
	fails    int
	finished chan machine.Order
	seen     machine.BMC
}

func (a *away) down() error {
	if a.fails == 0 {
		return nil
	}
	a.fails--
	return fault.New(fault.Unavailable, "the database is away")
}

func (a *away) OrderClaimForBMC(context.Context, string, time.Duration) (*machine.Order, error) {
	o := a.order
	a.order = nil
	return o, nil
}

func (a *away) OrderFinish(_ context.Context, o machine.Order) error {
	if err := a.down(); err != nil {
		return err
	}
	a.finished <- o
	return nil
}

func (a *away) BMCAccess(context.Context, machine.ID) (power.Access, error) {
	return power.Access{URL: "redfish://x"}, a.down()
}

func (a *away) BMCSeen(_ context.Context, _ machine.ID, b machine.BMC) error {
	a.seen = b
	return nil
}

type chip struct{ power.Driver }

func (chip) State(context.Context) (power.State, error) { return power.StateOn, nil }
func (chip) Identify(context.Context) (power.Identity, error) {
	return power.Identity{Vendor: "V", CertificateSHA256: "abc"}, nil
}
func (chip) Close(context.Context) error { return nil }

// TestActuatorOutlastsTheDatabase: an order whose result cannot be saved at once
// is not lost until its claim runs out, and none fails because of the database.
func TestActuatorOutlastsTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fails := range []int{0, 10} {
			store := &away{fails: fails, finished: make(chan machine.Order, 1),
				order: &machine.Order{MachineID: "k3f9qa", Step: "power-query", Job: machine.Job{BMC: &machine.BMCJob{Action: machine.BMCQuery}}}}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			open := func(context.Context, power.Access) (power.Driver, error) { return chip{}, nil }
			go func() {
				done <- lifecycle.NewActuator(store, open, "c1", nil, slog.New(slog.DiscardHandler)).Run(ctx)
			}()
			begun := time.Now()
			if o := <-store.finished; o.State != machine.OrderSucceeded || o.Result.Power != machine.PowerOn {
				t.Errorf("got %s, %s (%s)", o.State, o.Reason, o.Detail)
			}
			if got := time.Since(begun); got > time.Minute {
				t.Errorf("saved after %s", got)
			}
			if store.seen.CertificateSHA256 != "abc" || store.seen.URL != "redfish://x" {
				t.Errorf("first use: got %+v kept, want its certificate", store.seen)
			}
			cancel()
			<-done
		}
	})
}
