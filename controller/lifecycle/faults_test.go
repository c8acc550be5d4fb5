package lifecycle_test

import (
	"context"
	"log/slog"
	"strings"
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

// TestAgentThatCameKeepsItsPower: what the BMC was to do is taken back, what it is
// doing is awaited, and nothing is given to an agent that may lose its power.
func TestAgentThatCameKeepsItsPower(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		action    string
		state     machine.OrderState
		withdrawn int
		given     int
	}{
		{machine.BMCOff, machine.OrderPending, 1, 0},
		{machine.BMCOff, machine.OrderDelivered, 1, 0},
		{machine.BMCOn, machine.OrderPending, 1, 0},
		{machine.BMCOn, machine.OrderDelivered, 0, 1},
		{machine.BMCOff, machine.OrderSucceeded, 0, 1},
		{machine.BMCQuery, machine.OrderPending, 0, 1},
	} {
		d := lifecycle.Decide(machine.Snapshot{
			Now:       now,
			Machine:   machine.Machine{State: machine.Commissioning, Outcome: machine.OutcomeRunning, Approved: true, AgentOnline: true, BMC: &machine.BMC{URL: "ipmi://x"}},
			Operation: &machine.Operation{Kind: machine.OperationCommission, State: machine.OperationRunning, Wish: commissionWish},
			Orders: []machine.Order{{ID: 7, Step: "power-" + tt.action, Attempt: 1, Target: machine.TargetBMC, State: tt.state, CreatedAt: now,
				Job: machine.Job{BMC: &machine.BMCJob{Action: tt.action}}}},
		})
		if len(d.Withdraw) != tt.withdrawn || len(d.Orders) != tt.given {
			t.Errorf("%s %s: got %v taken back and %d orders, want %d and %d", tt.state, tt.action, d.Withdraw, len(d.Orders), tt.withdrawn, tt.given)
		}
	}
}

// awaitingProof is a machine whose image is written and whose report is awaited.
func awaitingProof(now time.Time, orders ...machine.Order) machine.Snapshot {
	wish := machine.Wish{Deploy: &machine.DeployWish{ImageDigest: "sha256:1", Disk: "S1", Proof: machine.ProofReport}}
	written := machine.Order{Step: "deploy", Attempt: 1, Target: machine.TargetAgent, State: machine.OrderSucceeded, BootGeneration: 1, FinishedAt: now.Add(-10 * time.Minute),
		Result: machine.Result{Deploy: &machine.DeployResult{ImageDigest: "sha256:1", DiskSerial: "S1", Verified: true, BootPath: "checked"}}}
	return machine.Snapshot{
		Now: now,
		Machine: machine.Machine{State: machine.Deploying, Outcome: machine.OutcomeRunning, Approved: true, BootGeneration: 2, BMC: &machine.BMC{URL: "ipmi://x"},
			Disks: []machine.Disk{{Serial: "S1"}, {Serial: "S2"}}, Deployed: &machine.Deployment{OperationID: "op-1", Proof: machine.ProofReport}},
		Operation: &machine.Operation{ID: "op-1", Kind: machine.OperationDeploy, State: machine.OperationRunning, Wish: wish, CreatedAt: now.Add(-20 * time.Minute)},
		Orders:    append([]machine.Order{written}, orders...),
	}
}

// TestPowerLostOnTheWayToTheDisk: the order to restart can give no result any
// more; the power is looked at, and no agent is blamed.
func TestPowerLostOnTheWayToTheDisk(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := awaitingProof(now, machine.Order{ID: 2, Step: "to-disk-1", Attempt: 1, Target: machine.TargetAgent, State: machine.OrderDelivered, BootGeneration: 2, CreatedAt: now.Add(-6 * time.Minute)})
	s.Machine.AgentSeenAt = now.Add(-5 * time.Minute)
	d := lifecycle.Decide(s)
	if d.Wait == nil || len(d.Orders) != 1 || d.Orders[0].Job.BMC == nil || d.Orders[0].Job.BMC.Action != machine.BMCQuery {
		t.Fatalf("got %+v, end %+v, want the power to be looked at", d.Orders, d.End)
	}
	look := d.Orders[0]
	look.State, look.FinishedAt, look.Result.Power = machine.OrderSucceeded, now, machine.PowerOff
	s.Orders = append(s.Orders, look)
	if d = lifecycle.Decide(s); len(d.Orders) != 1 || d.Orders[0].Step != "power-back-1" {
		t.Errorf("got %+v, want the power back", d.Orders)
	}
}

// TestReportDuringTheRestart: a system that was late is not left switched off.
func TestReportDuringTheRestart(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for state, want := range map[machine.OrderState]string{machine.OrderPending: "end", machine.OrderDelivered: "wait", machine.OrderSucceeded: "restart-on"} {
		s := awaitingProof(now, machine.Order{ID: 2, Step: "restart-off", Attempt: 1, Target: machine.TargetBMC, State: state, CreatedAt: now, FinishedAt: now,
			Job: machine.Job{BMC: &machine.BMCJob{Action: machine.BMCOff}}})
		s.Machine.Deployed.ProvenAt = now
		d := lifecycle.Decide(s)
		got := "wait"
		if d.End != nil {
			got = "end"
		}
		if len(d.Orders) > 0 {
			got = d.Orders[0].Step
		}
		if got != want {
			t.Errorf("power-off %s: got %s, want %s", state, got, want)
		}
	}
}

// TestOtherDiskWritten fails by name, whatever was proved of that disk.
func TestOtherDiskWritten(t *testing.T) {
	t.Parallel()
	s := awaitingProof(time.Now())
	s.Orders[0].Result.Deploy.DiskSerial = "S2"
	if d := lifecycle.Decide(s); d.End == nil || d.End.Reason != machine.ReasonDiskOther || !strings.Contains(d.End.Detail, "S1") || !strings.Contains(d.End.Detail, "S2") {
		t.Errorf("got %+v, want %s with both disks named", d.End, machine.ReasonDiskOther)
	}
}

// TestLadder: a BMC that says yes and does nothing is restarted once before the
// operation fails, and the step is given again after that.
func TestLadder(t *testing.T) {
	t.Parallel()
	now := time.Now()
	snap := func(kind machine.OperationKind, reason machine.Reason, more ...machine.Order) machine.Snapshot {
		job := machine.Job{BMC: &machine.BMCJob{Action: machine.BMCQuery}}
		return machine.Snapshot{
			Now:       now,
			Machine:   machine.Machine{State: machine.Commissioning, Outcome: machine.OutcomeRunning, Approved: true, BMC: &machine.BMC{URL: "ipmi://x"}},
			Operation: &machine.Operation{Kind: kind, State: machine.OperationRunning, Wish: machine.Wish{Commission: commissionWish.Commission, Power: &machine.PowerWish{Action: "query"}}},
			Orders: append([]machine.Order{{Step: "power-query", Attempt: 4, Target: machine.TargetBMC, Job: job, State: machine.OrderFailed, Reason: reason,
				Detail: "what it said", FinishedAt: now.Add(-time.Minute)}}, more...),
		}
	}
	restart := func(state machine.OrderState, finished time.Time) machine.Order {
		return machine.Order{ID: 9, Step: "bmc-restart", Attempt: 1, Target: machine.TargetBMC, Job: machine.Job{BMC: &machine.BMCJob{Action: machine.BMCRestart}},
			State: state, CreatedAt: now.Add(-50 * time.Second), FinishedAt: finished, Detail: "no such command"}
	}
	for name, tt := range map[string]struct {
		snap machine.Snapshot
		want string // the order given, or what the failure says
	}{
		"ignored":                {snap(machine.OperationCommission, machine.ReasonBMCIgnored), "bmc-restart"},
		"nonsense":               {snap(machine.OperationCommission, machine.ReasonBMCProtocol), "bmc-restart"},
		"wrong password":         {snap(machine.OperationCommission, machine.ReasonBMCCredentials), "what it said"},
		"a person asks":          {snap(machine.OperationPower, machine.ReasonBMCIgnored), "what it said"},
		"restarting":             {snap(machine.OperationCommission, machine.ReasonBMCIgnored, restart(machine.OrderDelivered, time.Time{})), ""},
		"restarted":              {snap(machine.OperationCommission, machine.ReasonBMCIgnored, restart(machine.OrderSucceeded, now)), "power-query"},
		"restarted, and no use":  {snap(machine.OperationCommission, machine.ReasonBMCIgnored, restart(machine.OrderSucceeded, now.Add(-2*time.Minute))), "did not help"},
		"could not be restarted": {snap(machine.OperationCommission, machine.ReasonBMCIgnored, restart(machine.OrderFailed, now)), "no such command"},
	} {
		d := lifecycle.Decide(tt.snap)
		got := ""
		if len(d.Orders) == 1 {
			got = d.Orders[0].Step
		}
		if d.End != nil {
			got = d.End.Detail
		}
		if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
