package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/lifecycle"
	"github.com/ingot-metal/ingot/controller/machine"
)

// world is one machine with its store, BMC, agent and installed system, on a
// clock of its own. It applies decisions as the store does and carries out
// orders as BMC and agent do, with the faults that a seed chooses.
type world struct {
	t    *testing.T
	rand *rand.Rand
	now  time.Time

	m      machine.Machine
	op     *machine.Operation
	orders []machine.Order
	wakeAt time.Time

	neverBoots  bool // its firmware gets as far as seenAtBoot
	seenAtBoot  string
	agentHangs  bool // takes orders and gives no result
	agentOnce   bool // the next boot is over the network
	systemRuns  bool
	written     string // image on the disk, by operation
	bootedAt    time.Time
	booting     bool
	bootSeenAt  time.Time
	powerOns    int
	plugPulls   int
	plugsLeft   int
	plugAt      time.Time // zero: not at a set time
	failsLeft   int       // writes that end with a disk error
	bmcDownTill time.Time
	bmcIgnores  bool // until it is restarted
	restarts    int
	slowBMC     bool      // orders for it lie about, and take long; somebody presses the button
	deadline    time.Time // of the present state; zero: none
	timeouts    int
	given       map[string]int
	ends        []machine.End
	states      []machine.State
}

func newWorld(t *testing.T, seed uint64) *world {
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	return &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: start, given: map[string]int{}, wakeAt: start,
		m: machine.Machine{ID: "k3f9qa", State: machine.Enrolled, Outcome: machine.OutcomeNone, Approved: true, BMC: &machine.BMC{URL: "ipmi://x"},
			Disks: []machine.Disk{{Serial: "S1"}, {Serial: "S2"}}},
	}
}

// ask records a wish, as the API does.
func (w *world) ask(kind machine.OperationKind, wish machine.Wish) {
	w.t.Helper()
	if !w.m.Accepts(kind) {
		w.t.Fatalf("%s (%s) does not accept %s", w.m.State, w.m.Outcome, kind)
	}
	w.m.WishGeneration++
	w.op = &machine.Operation{ID: fmt.Sprintf("op-%d", w.m.WishGeneration), Kind: kind, State: machine.OperationPending, Wish: wish, CreatedAt: w.now, WishGeneration: w.m.WishGeneration}
	w.orders, w.wakeAt = nil, w.now
}

// run lets time pass until the operation has ended; more than limit is stuck.
func (w *world) run(limit time.Duration) machine.End {
	w.t.Helper()
	deadline := w.now.Add(limit)
	for !w.op.State.Ended() {
		if w.now.After(deadline) {
			w.t.Fatalf("stuck in %s, phase %q, orders %+v", w.m.State, w.op.Phase, w.orders)
		}
		w.turn()
		w.act()
		w.reap()
		w.now = w.now.Add(time.Second)
	}
	return w.ends[len(w.ends)-1]
}

// reap ends what is past its deadline, as the reaper does, and checks I7.
func (w *world) reap() {
	if w.deadline.IsZero() || w.now.Before(w.deadline) || w.op.State.Ended() {
		return
	}
	if w.now.After(w.deadline.Add(15 * time.Second)) {
		w.t.Fatalf("%s is past its deadline by %s", w.m.State, w.now.Sub(w.deadline))
	}
	if w.now.Second()%5 == 0 {
		rule, _ := machine.RuleOf(w.m.State)
		w.timeouts++
		w.move(machine.Decision{End: &machine.End{To: w.m.State, Outcome: machine.OutcomeFailed, Reason: rule.TimeoutReason}})
	}
}

// turn takes an engine's turn when the machine is due.
func (w *world) turn() {
	if w.now.Before(w.wakeAt) {
		return
	}
	s := machine.Snapshot{Now: w.now, Machine: w.m, Operation: w.op, Orders: w.orders, BootSeenAt: w.bootSeenAt, BootSeenWhat: w.seenAtBoot}
	d := lifecycle.Decide(s)
	// A turn may be taken twice: it must come to the same.
	if again := lifecycle.Decide(s); len(again.Orders) != len(d.Orders) || (again.End == nil) != (d.End == nil) {
		w.t.Fatalf("two turns on one snapshot differ")
	}
	w.save(d)
}

func (w *world) save(d machine.Decision) {
	set := 0
	for _, is := range []bool{d.Wait != nil, d.Go != nil, d.End != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		w.t.Fatalf("a decision has %d outcomes, not one: %+v", set, d)
	}
	for _, o := range d.Orders {
		key := fmt.Sprintf("%s/%s/%d", w.op.ID, o.Step, o.Attempt)
		if w.given[key]++; w.given[key] > 1 {
			w.t.Fatalf("order %s given twice", key)
		}
		o.ID, o.State, o.CreatedAt = int64(len(w.given)), machine.OrderPending, w.now
		if o.Target == machine.TargetAgent {
			o.BootGeneration = w.m.BootGeneration
		}
		w.orders = append(w.orders, o)
	}
	for _, r := range d.Receipts {
		w.erased(r)
	}
	for i := range w.orders {
		if o := &w.orders[i]; slices.Contains(d.Withdraw, o.ID) && o.State == machine.OrderPending {
			o.State = machine.OrderSuperseded
		}
	}
	w.op.Phase = d.Phase
	w.op.Steps = append(w.op.Steps, d.Steps...)
	if d.Deployed != nil {
		w.m.Deployed = d.Deployed
	}
	if d.ForgetDeployment {
		w.m.Deployed = nil
	}
	w.move(d)
}

func (w *world) move(d machine.Decision) {
	begins := w.op.State == machine.OperationPending
	w.op.State = machine.OperationRunning
	if begins && d.Go == nil && d.End == nil {
		w.enter(w.m.State, machine.OutcomeRunning)
		w.limit()
	}
	switch {
	case d.Wait != nil:
		if d.Wait.Until.Before(w.now) {
			w.t.Fatalf("waits for %q until the past", d.Wait.For)
		}
		w.wakeAt = d.Wait.Until
	case d.Go != nil:
		w.enter(d.Go.To, machine.OutcomeRunning)
		w.wakeAt = w.now
	case d.End != nil:
		w.enter(d.End.To, d.End.Outcome)
		w.ends = append(w.ends, *d.End)
		w.deadline = time.Time{}
		w.op.State = machine.OperationSucceeded
		if d.End.Reason != machine.ReasonNone {
			w.op.State = machine.OperationFailed
		}
	}
}

func (w *world) enter(to machine.State, o machine.Outcome) {
	if to != w.m.State && !machine.MayFollow(w.m.State, to) {
		w.t.Fatalf("%s may not follow %s", to, w.m.State)
	}
	if to != w.m.State {
		w.states = append(w.states, to)
	}
	if reason, detail := w.m.NotFree(nil); reason != machine.ReasonNone && (to == machine.Ready || to == machine.Allocated) && to != w.m.State {
		w.t.Fatalf("%s → %s with an owner's data: %s", w.m.State, to, detail)
	}
	moved := to != w.m.State
	w.m.State, w.m.Outcome = to, o
	if moved {
		w.limit()
	}
}

// limit sets the deadline of the present state.
func (w *world) limit() {
	w.deadline = time.Time{}
	if rule, _ := machine.RuleOf(w.m.State); rule.Passing {
		w.deadline = w.now.Add(rule.Limit)
	}
}

// holds puts an owner's data onto disks, all when no serial is given.
func (w *world) holds(serial string) {
	disks := slices.Clone(w.m.Disks) // snapshots have the old ones
	for i := range disks {
		if serial == "" || disks[i].Serial == serial {
			disks[i].Data = &machine.DiskData{Since: w.now, OperationID: w.op.ID, MachineID: w.m.ID, Written: serial != ""}
		}
	}
	w.m.Disks = disks
}

func (w *world) erased(r machine.EraseReceipt) {
	disks := slices.Clone(w.m.Disks)
	for i := range disks {
		if r.Erases(disks[i].Serial, disks[i].WWN) {
			disks[i].Data = nil
		}
	}
	w.m.Disks = disks
}

// act carries out orders, boots what is powered, and lets faults happen.
func (w *world) act() {
	if w.plugsLeft > 0 && w.rand.IntN(40) == 0 {
		w.plugsLeft--
		w.plugPulls++
		w.off()
	}
	if w.slowBMC && w.m.PowerState == machine.PowerOff && w.rand.IntN(60) == 0 {
		w.m.PowerState, w.booting, w.bootedAt = machine.PowerOn, true, w.now
	}
	if !w.plugAt.IsZero() && w.now.After(w.plugAt) {
		w.plugAt = time.Time{}
		w.off()
	}
	for i := range w.orders {
		if o := &w.orders[i]; o.State == machine.OrderPending || o.State == machine.OrderDelivered {
			w.carryOut(o)
		}
	}
	if w.booting && w.now.Sub(w.bootedAt) > 20*time.Second {
		w.booted()
	}
	if w.systemRuns && w.m.Deployed != nil && w.m.Deployed.ProvenAt.IsZero() && w.rand.IntN(20) == 0 {
		proven := *w.m.Deployed
		proven.ProvenAt = w.now
		w.m.Deployed, w.wakeAt = &proven, w.now
	}
}

func (w *world) off() {
	if w.m.AgentOnline {
		w.m.AgentOnline, w.m.AgentSeenAt = false, w.now
		w.wakeAt = w.now
	}
	w.booting, w.systemRuns, w.m.PowerState = false, false, machine.PowerOff
}

func (w *world) booted() {
	w.booting = false
	if w.neverBoots {
		if w.seenAtBoot != "" {
			w.bootSeenAt = w.now
		}
		return
	}
	if w.m.State != machine.Deployed && (w.agentOnce || w.written == "" || w.written != w.op.ID) {
		w.agentOnce = false
		w.m.BootGeneration++
		w.m.AgentOnline, w.m.AgentSeenAt, w.bootSeenAt, w.wakeAt = true, w.now, w.now, w.now
		for i := range w.orders {
			if o := &w.orders[i]; o.Target == machine.TargetAgent && o.State != machine.OrderSucceeded && o.State != machine.OrderFailed {
				o.State = machine.OrderSuperseded
			}
		}
		return
	}
	w.systemRuns = true
}

func (w *world) carryOut(o *machine.Order) {
	if o.Target == machine.TargetBMC {
		if w.slowBMC && w.rand.IntN(15) != 0 {
			return
		}
		if w.slowBMC && o.State == machine.OrderPending {
			o.State = machine.OrderDelivered
			return
		}
		w.bmc(o)
		return
	}
	if !w.m.AgentOnline || o.BootGeneration != w.m.BootGeneration {
		return
	}
	if o.Job.Deploy != nil {
		w.holds(o.Job.Deploy.Disk)
	}
	o.State = machine.OrderDelivered
	if w.agentHangs || w.rand.IntN(12) != 0 {
		return
	}
	switch {
	case o.Job.Commission != nil:
		o.Result.Tests = &machine.TestTally{Passed: 3}
	case o.Job.Deploy != nil && w.failsLeft > 0:
		w.failsLeft--
		o.Reason = machine.ReasonDiskError
		w.finish(o, machine.OrderFailed)
		return
	case o.Job.Deploy != nil:
		w.holds("")
		o.Result.Deploy = &machine.DeployResult{ImageDigest: o.Job.Deploy.ImageDigest, DiskSerial: o.Job.Deploy.Disk, Verified: true, BootPath: "checked", EnteringBy: machine.EnteredByKexec}
		w.written = w.op.ID
	case o.Job.Erase != nil:
		for _, s := range o.Job.Erase.DiskSerials {
			o.Result.Erase = append(o.Result.Erase, machine.EraseReceipt{DiskSerial: s, Verified: true})
		}
		w.written = ""
	}
	w.finish(o, machine.OrderSucceeded)
	if o.Job.Deploy != nil || o.Job.Reboot != nil { // it leaves the agent
		w.m.AgentOnline, w.m.AgentSeenAt = false, w.now
		w.booting, w.bootedAt = true, w.now
	}
}

func (w *world) bmc(o *machine.Order) {
	if w.now.Before(w.bmcDownTill) {
		o.Reason, o.Detail = machine.ReasonBMCUnreachable, "no answer"
		w.finish(o, machine.OrderFailed)
		return
	}
	if w.bmcIgnores && o.Job.BMC.Action != machine.BMCRestart && o.Job.BMC.Action != machine.BMCQuery {
		o.Reason, o.Detail = machine.ReasonBMCIgnored, "accepted, and nothing happened"
		w.finish(o, machine.OrderFailed)
		return
	}
	switch o.Job.BMC.Action {
	case machine.BMCRestart:
		w.restarts++
		w.bmcIgnores = w.bmcIgnores && w.restarts < 2 && w.rand.IntN(2) == 0
	case machine.BMCOn:
		if w.m.PowerState != machine.PowerOn {
			w.powerOns++
			w.m.PowerState, w.booting, w.bootedAt = machine.PowerOn, true, w.now
		}
	case machine.BMCOff:
		for _, o := range w.orders {
			if w.m.AgentOnline && o.Target == machine.TargetAgent && o.State == machine.OrderDelivered && o.BootGeneration == w.m.BootGeneration && w.op.Kind != machine.OperationPower {
				w.t.Fatalf("power is cut under an agent that works on %s", o.Step)
			}
		}
		w.off()
	case machine.BMCBootAgentOnce:
		w.agentOnce = true
	}
	o.Result.Power = w.m.PowerState
	if o.Result.Power == "" {
		o.Result.Power = machine.PowerOff
	}
	w.finish(o, machine.OrderSucceeded)
}

func (w *world) finish(o *machine.Order, s machine.OrderState) {
	o.State, o.FinishedAt, w.wakeAt = s, w.now, w.now
}
