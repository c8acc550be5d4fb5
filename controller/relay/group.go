package relay

import (
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// Rules of a relay; the zero value means the defaults, which were measured by
// make bench-mass.
type Rules struct {
	// MinMembers is the crossover: with fewer members under way no links are
	// made (default 3).
	MinMembers int
	// MaxMembers of a group; others stay on HTTP (default 10,000).
	MaxMembers int
	// Silent is after how long without a word a member is passed over (default
	// 2.5 s).
	Silent time.Duration
	// Settle is how long a member must have had its source before a pace begins
	// that says anything (default 100 ms).
	Settle time.Duration
	// Bar is how long a peer that failed a member is not given to it again
	// (default 30 s), and how long one that failed several serves nobody.
	Bar time.Duration
}

func (r Rules) filled() Rules {
	or(&r.MinMembers, 3)
	or(&r.MaxMembers, 10_000)
	or(&r.Silent, 2500*time.Millisecond)
	or(&r.Settle, 100*time.Millisecond)
	or(&r.Bar, 30*time.Second)
	return r
}

func or[T comparable](to *T, def T) {
	var zero T
	if *to == zero {
		*to = def
	}
}

// Place is what is known of a member before it says a word.
type Place struct {
	// Rack is the switch that the machine hangs on, Subnet the network it is in;
	// empty: not known. Members of one place are linked first.
	Rack, Subnet string
	// LinkBytesPerSecond of its NIC; 0: not known.
	LinkBytesPerSecond uint64
}

// State is what a member says of itself, twice a second.
type State struct {
	// URLs at which it serves; none: it does not.
	URLs []string
	// RingBytes that it keeps for peers, Position before which it has all, both
	// in bytes of the packed file.
	RingBytes, Position uint64
	BytesPerSecond      uint64
	// ReceivedBytes since it began, from whomever.
	ReceivedBytes uint64
	// Waiting: its source has more, and it comes slowly.
	Waiting bool
	// Upstream that it reads from; empty: HTTP.
	Upstream machine.ID
	// Failed is a peer that failed it since the last state, Failure how, in the
	// words of package imaging/relay.
	Failed  machine.ID
	Failure string
	// Done: it needs no more frames.
	Done bool
}

// Upstream is where a member shall read from now on.
type Upstream struct {
	Member machine.ID
	// Peer is empty for HTTP.
	Peer machine.ID
	URLs []string
}

// Count says how a group stands.
type Count struct {
	Members int // that are under way
	Heads   int // of these, on HTTP
	Slow    int
	Reforms int // links cut since the group began, for whatever reason
}

// Group plans one image's relay. Not safe for use by several goroutines.
type Group struct {
	rules   Rules
	members map[machine.ID]*member
	joined  int // how many ever joined
	reforms int
	// best rate of the moment in bytes a second, of all and of those on HTTP;
	// ring is the largest.
	best, bestHead, ring float64
}

// NewGroup makes an empty one.
func NewGroup(rules Rules) *Group {
	return &Group{rules: rules.filled(), members: map[machine.ID]*member{}}
}

// member is one machine of the group.
type member struct {
	id     machine.ID
	place  Place
	number int // order of joining
	state  State
	heard  time.Time // when it last spoke; zero: never, and it is not under way

	up      *member   // nil: HTTP
	former  *member   // whom it read from before its link was cut
	since   time.Time // when up was chosen
	told    Upstream
	when    time.Time  // it was told
	earlier machine.ID // the peer that it was told before that

	slow      bool
	fast      int // states in a row in which a slow one was not
	late      int // paces in a row in which a healthy one was late
	pace      pace
	judged    time.Time // end of the pace that was judged last
	waited    time.Time // since when data waits at its source; zero: none does
	starved   *member   // who was slow behind it, and since when
	starvedAt time.Time
	probing   time.Time
	probes    int
	barred    map[machine.ID]time.Time // peer, until when
	rest      time.Time                // stays on HTTP until then
	accusers  map[machine.ID]time.Time
	doubted   time.Time // when a peer said that it failed
	idle      time.Time // serves nobody until then

	plan planned
}

// maxBarred bounds what one member remembers of its peers.
const maxBarred = 16

// pace is what a member received between two states, which is sharper than the
// average that it tells.
type pace struct {
	rate     float64       // bytes a second
	span     time.Duration // that it was measured over; 0: it was not
	at       time.Time     // the span's end
	received uint64        // by then
}

// leastSpan is the shortest time that a pace is measured over: states come out of
// turn when a peer fails.
const leastSpan = 150 * time.Millisecond

func (p *pace) measure(received uint64, now time.Time) {
	if span := now.Sub(p.at); span >= leastSpan {
		*p = pace{float64(received-p.received) / span.Seconds(), span, now, received}
	}
}

// Join adds a member, or begins anew with one that is there: another order, or
// another boot. False means that the group is full.
func (g *Group) Join(id machine.ID, place Place, now time.Time) bool {
	if g.members[id] == nil && len(g.members) >= g.rules.MaxMembers {
		return false
	}
	g.Leave(id)
	g.joined++
	g.members[id] = &member{id: id, place: place, number: g.joined, since: now}
	return true
}

// Leave takes a member out; whoever read from it is linked anew at the next Plan.
func (g *Group) Leave(id machine.ID) {
	gone := g.members[id]
	if gone == nil {
		return
	}
	delete(g.members, id)
	before := gone.up
	if before == nil {
		before = gone.former
	}
	for _, m := range g.members {
		if m.up == gone {
			g.cut(m)
		}
		if m.former == gone {
			m.former = before
		}
	}
}

// Report takes a member's word. Of one who never joined it is dropped, and false.
func (g *Group) Report(id machine.ID, s State, now time.Time) bool {
	m := g.members[id]
	if m == nil {
		return false
	}
	if m.heard.IsZero() || s.Position < m.state.Position || s.ReceivedBytes < m.state.ReceivedBytes {
		m.since = now // it begins, maybe anew: nothing is known of its pace
		m.pace = pace{rate: float64(s.BytesPerSecond), at: now, received: s.ReceivedBytes}
	}
	m.pace.measure(s.ReceivedBytes, now)
	m.state, m.heard = s, now
	if s.Failed != "" {
		g.accuse(m, g.members[s.Failed], s.Failure, now)
	}
	return true
}

// accuse parts a member from the peer that failed it, if it was sent there. Not
// every failure is the peer's fault: it may have moved on, have nothing itself, or
// be at its end.
func (g *Group) accuse(m, peer *member, failure string, now time.Time) {
	if peer == nil || peer == m || peer.id != m.told.Peer && peer.id != m.earlier {
		return
	}
	_, again := m.barred[peer.id]
	m.bar(peer.id, now, g.rules.Bar)
	switch failure {
	case "gone", "leaving", "late", "busy":
		return
	}
	if m.slow {
		return // what is slow in it is no news of the peer
	}
	live := 0
	for _, until := range m.barred {
		if until.After(now) {
			live++
		}
	}
	if live >= believed {
		// It may be the member itself that cannot be served: give it a rest.
		m.rest = now.Add(min(time.Second<<live, g.rules.Bar))
	}
	if again || live > believed {
		return
	}
	peer.doubted = now
	peer.accuse(m.id, now, g.rules.Bar)
}

// bar keeps a peer from being given to m again for a while. Of many the one that
// would be free first makes room.
func (m *member) bar(peer machine.ID, now time.Time, bar time.Duration) {
	if m.barred == nil {
		m.barred = map[machine.ID]time.Time{}
	}
	if len(m.barred) >= maxBarred {
		first := peer
		for id, until := range m.barred {
			if first == peer || until.Before(m.barred[first]) {
				first = id
			}
		}
		delete(m.barred, first)
	}
	m.barred[peer] = now.Add(bar)
}

// accuse notes one who was failed; with a second one, the member is out of use.
func (m *member) accuse(by machine.ID, now time.Time, bar time.Duration) {
	if m.accusers == nil || len(m.accusers) >= maxBarred {
		m.accusers = map[machine.ID]time.Time{}
	}
	m.accusers[by] = now
	several := 0
	for _, at := range m.accusers {
		if now.Sub(at) < bar {
			several++
		}
	}
	if several > 1 {
		m.idle = now.Add(bar)
	}
}

// believed is how many peers a member may accuse before nobody listens.
const believed = 3

// Count says how the group stands.
func (g *Group) Count() Count {
	c := Count{Reforms: g.reforms}
	for _, m := range g.members {
		if m.state.Done || m.heard.IsZero() {
			continue
		}
		c.Members++
		if m.up == nil {
			c.Heads++
		}
		if m.slow {
			c.Slow++
		}
	}
	return c
}

// Empty tells whether nobody is left.
func (g *Group) Empty() bool { return len(g.members) == 0 }
