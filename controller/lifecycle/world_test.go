package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
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
	bmcDownTill time.Time
	given       map[string]int
	ends        []machine.End
	states      []machine.State
}

func newWorld(t *testing.T, seed uint64) *world {
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	return &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: start, given: map[string]int{}, wakeAt: start,
		m: machine.Machine{ID: "k3f9qa", State: machine.Enrolled, Outcome: machine.OutcomeNone, Approved: true, BMC: &machine.BMC{URL: "ipmi://x"}},
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
		w.now = w.now.Add(time.Second)
	}
	return w.ends[len(w.ends)-1]
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
	w.op.State = machine.OperationRunning
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
	w.m.State, w.m.Outcome = to, o
}

// act carries out orders, boots what is powered, and lets faults happen.
func (w *world) act() {
	if w.plugsLeft > 0 && w.rand.IntN(40) == 0 {
		w.plugsLeft--
		w.plugPulls++
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
		w.bmc(o)
		return
	}
	if !w.m.AgentOnline || o.BootGeneration != w.m.BootGeneration {
		return
	}
	o.State = machine.OrderDelivered
	if w.agentHangs || w.rand.IntN(12) != 0 {
		return
	}
	switch {
	case o.Job.Commission != nil:
		o.Result.Tests = &machine.TestTally{Passed: 3}
	case o.Job.Deploy != nil:
		o.Result.Deploy = &machine.DeployResult{ImageDigest: o.Job.Deploy.ImageDigest, Verified: true, BootPath: "checked", EnteringBy: machine.EnteredByKexec}
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
	switch o.Job.BMC.Action {
	case machine.BMCOn:
		if w.m.PowerState != machine.PowerOn {
			w.powerOns++
			w.m.PowerState, w.booting, w.bootedAt = machine.PowerOn, true, w.now
		}
	case machine.BMCOff:
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
