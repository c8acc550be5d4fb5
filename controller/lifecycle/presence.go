package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

const (
	// reconnectGrace is how long a silent agent is taken to be reconnecting
	// (its controller restarted, a cable was moved).
	reconnectGrace = 20 * time.Second
	// bootLimit is how long firmware, loader, kernel and agent may take after
	// the last thing seen of them. Large servers spend minutes in self-test.
	bootLimit = 6 * time.Minute
	// signOfLife is how long a loader's request counts as a boot under way.
	signOfLife = 3 * time.Minute
	// checkPower is how often power is read while an agent is awaited: a
	// machine that lost power will not come by itself.
	checkPower = 45 * time.Second
	// bootRounds bounds how often a machine is powered up for one operation. All
	// rounds together are shorter than any state's limit, so that the cause is
	// named before the deadline passes.
	bootRounds = 4
	// poweredGrace is how long an agent of a machine that kept its power is
	// awaited before the power is cut: longer than an agent's longest pause
	// between two attempts to connect, and it may be in the middle of a write.
	poweredGrace = 75 * time.Second
)

// agentPresent brings the machine into the agent: at once when its agent is
// resident, else by power. It returns true when the agent is there; otherwise
// the turn is decided.
//
// A round reads the power state, switches off what runs without an agent, asks
// for one network boot, switches on, and awaits the agent. Every round's steps
// carry its number, so each power action is given once.
func (t *turn) agentPresent() bool {
	m := t.s.Machine
	if m.AgentOnline {
		return !t.powerComing()
	}
	if left := reconnectGrace - t.s.Now.Sub(m.AgentSeenAt); left > 0 && !t.leftForSystem() {
		t.wait("agent", "for the agent to connect again", left)
		return false
	}
	if !drivable(m) {
		t.wait("agent", "for a person to power it on: no BMC is set, and it boots into the agent over the network", time.Minute)
		return false
	}
	for round := 1; round <= bootRounds; round++ {
		switch t.bootRound(round) {
		case roundDecided:
			return false
		case roundOver:
			continue
		}
	}
	t.fail(t.silence(), fmt.Sprintf("powered on %d times; %s", bootRounds, t.lastSeen()))
	return false
}

// powerComing takes back what was ordered of the BMC to bring an agent that has
// come by itself meanwhile. A power-off that the BMC is being told already is
// awaited, unless its controller is gone: nothing is given to an agent that may
// lose its power. It returns true when the turn is decided.
func (t *turn) powerComing() bool {
	begun := ""
	for _, o := range t.s.Orders {
		if o.Target != machine.TargetBMC || o.Job.BMC == nil || o.Job.BMC.Action == machine.BMCQuery {
			continue
		}
		off := o.Job.BMC.Action == machine.BMCOff || o.Job.BMC.Action == machine.BMCSoftOff
		switch {
		case o.State == machine.OrderDelivered && off:
			begun = o.Step
			t.d.Withdraw = append(t.d.Withdraw, o.ID)
		case o.State == machine.OrderPending:
			t.d.Withdraw = append(t.d.Withdraw, o.ID)
		}
	}
	switch {
	case len(t.d.Withdraw) == 0:
		return false
	case begun != "":
		t.wait("agent", "for the BMC to end "+begun+", which was begun before the agent came", 5*time.Second)
		return true
	}
	t.event(machine.EventStep, "the agent came by itself: what the BMC was to do is taken back")
	t.wait("agent", "for orders to be taken back", 0)
	return true
}

// leftForSystem reports whether the agent that was seen last has left the
// machine to its installed system: nobody is to be awaited then.
func (t *turn) leftForSystem() bool {
	return t.foundIn() == machine.Deployed && t.s.Machine.AgentSeenAt.Before(t.s.Operation.CreatedAt)
}

// silence names what an agent that never came looks like.
func (t *turn) silence() machine.Reason {
	ofThisWish := !t.s.BootSeenAt.Before(t.s.Operation.CreatedAt)
	if ofThisWish && strings.HasPrefix(t.s.BootSeenWhat, "loader_sent") { // as controller/boot calls it
		return machine.ReasonLoaderSilence
	}
	return machine.ReasonNoAgent
}

type roundState int

const (
	roundDecided roundState = iota // the turn is decided
	roundOver                      // this round did not bring the agent
)

func (t *turn) bootRound(round int) roundState {
	name := func(s string) string {
		if round == 1 {
			return s
		}
		return fmt.Sprintf("%s-%d", s, round)
	}
	if on := t.latest(name("power-on")); on != nil && on.State == machine.OrderSucceeded {
		return t.awaitAgent(name, on.FinishedAt)
	}
	query := t.run(bmcStep(name("power-query"), "the agent is wanted and not there", machine.BMCJob{Action: machine.BMCQuery}))
	if query == nil {
		return roundDecided
	}
	t.d.Power = query.Result.Power
	if query.Result.Power == machine.PowerOn {
		if left := t.bootUnderWay(); round == 1 && left > 0 {
			t.wait("agent", "for the agent: the machine is booting already", left)
			return roundDecided
		}
		if left := poweredGrace - t.s.Now.Sub(t.s.Machine.AgentSeenAt); round == 1 && left > 0 && !t.leftForSystem() {
			t.wait("agent", "for the agent to connect again: the machine kept its power", left)
			return roundDecided
		}
		if t.run(bmcStep(name("power-off"), "it runs without our agent", machine.BMCJob{Action: machine.BMCOff})) == nil {
			return roundDecided
		}
	}
	job := machine.BMCJob{Action: machine.BMCBootAgentOnce, BootMode: t.s.Machine.BootMode}
	if t.run(bmcStep(name("boot-agent-once"), "the next boot is to be over the network", job)) == nil {
		return roundDecided
	}
	on := t.run(bmcStep(name("power-on"), "to boot into the agent", machine.BMCJob{Action: machine.BMCOn}))
	if on == nil {
		return roundDecided
	}
	t.d.Power = on.Result.Power
	return t.awaitAgent(name, on.FinishedAt)
}

// awaitAgent waits for the agent of a round, reading the power meanwhile.
func (t *turn) awaitAgent(name func(string) string, poweredAt time.Time) roundState {
	since := poweredAt
	for _, at := range []time.Time{t.s.BootSeenAt, t.s.Machine.AgentSeenAt} {
		if at.After(since) {
			since = at
		}
	}
	left := bootLimit - t.s.Now.Sub(since)
	if left <= 0 || t.lostPower(name("power-check"), "agent", "for the agent: "+t.lastSeen(), poweredAt, left) {
		return roundOver
	}
	return roundDecided
}

// lostPower reads the power state every now and then while something else is
// awaited, and reports whether the machine was found off after poweredAt. When
// it was not, the turn is decided: waiting, at most for left.
func (t *turn) lostPower(check, phase, what string, poweredAt time.Time, left time.Duration) bool {
	last := t.latest(check)
	attempt, looked := 1, poweredAt
	if last != nil {
		attempt = last.Attempt + 1
		if last.State == machine.OrderPending || last.State == machine.OrderDelivered {
			t.wait(phase, what, min(left, checkPower))
			return false
		}
		if last.FinishedAt.After(poweredAt) {
			looked = last.FinishedAt
			if last.State == machine.OrderSucceeded {
				t.d.Power = last.Result.Power
				if last.Result.Power == machine.PowerOff {
					return true
				}
			}
		}
	}
	if !drivable(t.s.Machine) {
		t.wait(phase, what, left)
		return false
	}
	if next := checkPower - t.s.Now.Sub(looked); next > 0 {
		t.wait(phase, what, min(left, next))
		return false
	}
	t.lookAtPower(check, "is it still powered", attempt)
	t.wait(phase, what, min(left, checkPower))
	return false
}

// lookAtPower orders the power state to be read. A look is neither news nor a
// step.
func (t *turn) lookAtPower(name, cause string, attempt int) {
	events, steps := t.d.Events, t.d.Steps
	t.give(bmcStep(name, cause, machine.BMCJob{Action: machine.BMCQuery}), attempt)
	t.d.Events, t.d.Steps = events, steps
}

// bootUnderWay is how long a boot that was seen on the network may still take;
// zero when none was seen since the operation began.
func (t *turn) bootUnderWay() time.Duration {
	if t.s.BootSeenAt.Before(t.s.Operation.CreatedAt) {
		return 0
	}
	return signOfLife - t.s.Now.Sub(t.s.BootSeenAt)
}

// lastSeen says how far the machine's boot came, for a person.
func (t *turn) lastSeen() string {
	if t.s.BootSeenAt.IsZero() {
		return "nothing of it was ever seen on the network"
	}
	return fmt.Sprintf("last seen on the network %s ago: %s", t.s.Now.Sub(t.s.BootSeenAt).Round(time.Second), t.s.BootSeenWhat)
}
