package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// sim is a relay in a model of fluid links: each node has a link of its own, each
// way, the controller has one, and a frame is passed on when it is whole.
type sim struct {
	t       *testing.T
	rng     *rand.Rand
	group   *Group
	nodes   []*node
	image   float64 // bytes
	frame   float64
	ring    float64
	link    float64 // bytes a second
	uplink  float64
	now     time.Time
	egress  float64
	stall   time.Duration // how long a node waits for a peer that is silent
	planned time.Time
}

type node struct {
	id           machine.ID
	speed        float64 // share of the link
	pos, rate    float64
	before       float64 // position at the last state
	up           *node
	failed       machine.ID
	failure      string
	next, spoke  time.Time
	joins        time.Time
	dies         time.Time
	joined, dead bool
	done         time.Time
	quiet        time.Duration
	lie          func(s *sim, me machine.ID, say *State) // nil: it says the truth
}

const tick = 10 * time.Millisecond

func newSim(t *testing.T, n int, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), group: NewGroup(Rules{}), image: 15e6, frame: 20e3, ring: 8e6, link: 1.9e6, uplink: 1.9e6,
		now: time.Unix(1000, 0),
	}
	for i := range n {
		s.nodes = append(s.nodes, &node{
			id: machine.ID(fmt.Sprintf("m%03d", i)), speed: 1, joins: s.now.Add(time.Duration(s.rng.IntN(200)) * time.Millisecond),
		})
	}
	return s
}

// run goes on until every healthy node has all, and gives how long the last of
// them took, in times that one alone takes.
func (s *sim) run() float64 {
	begin := s.now
	alone := s.image / min(s.link, s.uplink)
	for s.now.Sub(begin).Seconds() < 100*alone {
		s.step()
		s.checkForest()
		last, left := time.Time{}, 0
		for _, n := range s.nodes {
			if n.dead || n.speed < 1 {
				continue
			}
			if n.done.IsZero() {
				left++
			} else if n.done.After(last) {
				last = n.done
			}
		}
		if left == 0 {
			return last.Sub(begin).Seconds() / alone
		}
	}
	s.t.Fatalf("not done after %s", s.now.Sub(begin))
	return 0
}

func (s *sim) step() {
	s.now = s.now.Add(tick)
	for _, n := range s.nodes {
		if !n.joined && !s.now.Before(n.joins) {
			n.joined, n.next, n.spoke = true, s.now, s.now
			s.group.Join(n.id, Place{LinkBytesPerSecond: uint64(s.link)}, s.now)
		}
		if !n.dies.IsZero() && !s.now.Before(n.dies) {
			n.dead = true
		}
	}
	s.flow()
	for _, n := range s.nodes {
		s.speak(n)
	}
	if s.now.Sub(s.planned) >= 250*time.Millisecond {
		s.planned = s.now
		for _, u := range s.group.Plan(s.now) {
			s.obey(u)
		}
	}
}

func (s *sim) obey(u Upstream) {
	n := s.find(u.Member)
	n.up, n.quiet = nil, 0
	if u.Peer != "" {
		n.up = s.find(u.Peer)
	}
}

func (s *sim) find(id machine.ID) *node {
	for _, n := range s.nodes {
		if n.id == id {
			return n
		}
	}
	s.t.Fatalf("no node %q", id)
	return nil
}

// flow moves bytes for one tick: links are shared evenly by who wants something.
func (s *sim) flow() {
	dt := tick.Seconds()
	wants := map[*node][]*node{}
	for _, n := range s.nodes {
		if n.joined && !n.dead && n.done.IsZero() {
			wants[n.up] = append(wants[n.up], n)
		}
	}
	gain := map[*node]float64{}
	for up, down := range wants {
		budget := s.uplink * dt
		if up != nil {
			budget = s.link * up.speed * dt
		}
		for i, n := range down {
			most := s.link * n.speed * dt
			if up != nil {
				whole := up.pos - float64(int64(up.pos)%int64(s.frame))
				if up.pos >= s.image {
					whole = s.image
				}
				most = min(most, max(whole-n.pos, 0))
				if up.dead || n.pos < up.pos-s.ring {
					s.fail(n, up.dead)
					continue
				}
			}
			got := min(most, budget/float64(len(down)-i))
			budget -= got
			gain[n] = got
			if up == nil {
				s.egress += got
			}
		}
	}
	for n, got := range gain {
		n.pos = min(n.pos+got, s.image)
		if n.pos >= s.image && n.done.IsZero() {
			n.done = s.now
		}
	}
}

// fail is a node's own way to HTTP: at once when the connection breaks, and after
// a second when it is only silent.
func (s *sim) fail(n *node, silent bool) {
	n.failure = "gone"
	if silent {
		n.failure = "stalled"
		if n.quiet += tick; n.quiet < s.stall {
			return
		}
	}
	n.failed, n.up, n.quiet, n.next = n.up.id, nil, 0, s.now
}

func (s *sim) speak(n *node) {
	if !n.joined || n.dead || s.now.Before(n.next) {
		return
	}
	if elapsed := s.now.Sub(n.spoke); elapsed >= 200*time.Millisecond {
		n.rate, n.before, n.spoke = (n.pos-n.before)/elapsed.Seconds(), n.pos, s.now
	}
	n.next = s.now.Add(500 * time.Millisecond)
	st := State{
		URLs: []string{"http://" + string(n.id)}, RingBytes: uint64(s.ring), Position: uint64(n.pos), BytesPerSecond: uint64(n.rate), ReceivedBytes: uint64(n.pos),
		Failed: n.failed, Failure: n.failure, Done: !n.done.IsZero(),
	}
	n.failed = ""
	if n.up != nil {
		st.Upstream = n.up.id
	}
	if n.lie != nil {
		n.lie(s, n.id, &st)
		n.next = s.now
	}
	s.group.Report(n.id, st, s.now)
}

// checkForest holds the promises of the package against the group as it is.
func (s *sim) checkForest() {
	s.t.Helper()
	if err := forest(s.group); err != nil {
		s.t.Fatal(err)
	}
}
