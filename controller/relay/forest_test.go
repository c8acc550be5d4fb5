package relay

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ingot-metal/ingot/controller/machine"
)

// forest gives what is wrong with a group's links: a cycle, a second healthy
// child, somebody behind a slow member.
func forest(g *Group) error {
	kids := map[*member]int{}
	for _, m := range g.members {
		steps := 0
		for at := m; at.up != nil; at = at.up {
			if steps++; steps > len(g.members) {
				return fmt.Errorf("a cycle through %s", m.id)
			}
		}
		if m.up == nil {
			continue
		}
		if g.members[m.up.id] != m.up {
			return fmt.Errorf("%s reads from %s, which left", m.id, m.up.id)
		}
		if !m.slow {
			if kids[m.up]++; kids[m.up] > 1 {
				return fmt.Errorf("%s serves two healthy members", m.up.id)
			}
		}
	}
	return nil
}

// TestAnyStates holds the promises of the package whatever members say.
func TestAnyStates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := NewGroup(Rules{MaxMembers: 20})
		now := time.Unix(1000, 0)
		name := func(label string) machine.ID {
			return machine.ID(fmt.Sprintf("m%d", rapid.IntRange(0, 23).Draw(t, label)))
		}
		told := map[machine.ID]Upstream{}
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				if id := name("joins"); g.Join(id, Place{Rack: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "rack")}, now) {
					delete(told, id)
				}
			case 2:
				id := name("leaves")
				g.Leave(id)
				delete(told, id)
			case 3, 4:
				now = now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
			case 5, 6, 7, 8:
				id := name("speaks")
				s := State{
					RingBytes: rapid.SampledFrom([]uint64{0, 100, 1 << 62, ^uint64(0)}).Draw(t, "ring"), Position: rapid.Uint64Range(0, 1000).Draw(t, "position"),
					BytesPerSecond: rapid.SampledFrom([]uint64{0, 10, 100, ^uint64(0)}).Draw(t, "rate"), ReceivedBytes: rapid.Uint64Range(0, 1000).Draw(t, "received"), Waiting: rapid.Bool().Draw(t, "waiting"),
					Upstream: told[id].Peer, Done: rapid.IntRange(0, 9).Draw(t, "done") == 0,
				}
				if rapid.Bool().Draw(t, "serves") {
					s.URLs = []string{"http://" + string(id)}
				}
				if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
					s.Failed, s.Failure = name("failed"), rapid.SampledFrom([]string{"stalled", "gone", "?"}).Draw(t, "failure")
				}
				g.Report(id, s, now)
			default:
				before := map[machine.ID]*member{}
				for id, m := range g.members {
					before[id] = m.up
				}
				for _, u := range g.Plan(now) {
					if u.Peer == u.Member || (u.Peer == "") != (u.URLs == nil) {
						t.Fatalf("a member is told %+v", u)
					}
					told[u.Member] = u
				}
				if err := wrong(g, now, before); err != nil {
					t.Fatal(err)
				}
			}
			if err := forest(g); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// wrong gives what is wrong with a plan that was just made.
func wrong(g *Group, now time.Time, before map[machine.ID]*member) error {
	for _, m := range g.members {
		up, fresh := m.up, m.up != before[m.id]
		switch {
		case up == nil:
		case up.slow:
			return fmt.Errorf("%s reads from %s, which is slow", m.id, up.id)
		case len(up.state.URLs) == 0:
			return fmt.Errorf("%s reads from %s, which does not serve", m.id, up.id)
		case m.barred[up.id].After(now):
			return fmt.Errorf("%s reads from %s, which failed it", m.id, up.id)
		case fresh && up.state.Done:
			return fmt.Errorf("%s was given %s, which is done", m.id, up.id)
		case fresh && up.plan.est+g.slack() < m.plan.est:
			return fmt.Errorf("%s at %.0f was given %s, which is behind at %.0f", m.id, m.plan.est, up.id, up.plan.est)
		case !holds(up, m, 0):
			return fmt.Errorf("%s at %.0f reads from %s at %.0f, whose ring of %d has moved past (%v)", m.id, m.plan.est, up.id, up.plan.est, up.state.RingBytes, fresh)
		case m.slow && up.plan.kids > 0:
			return fmt.Errorf("slow %s is not at a tail", m.id)
		}
	}
	return nil
}

func TestPlanOfTenThousand(t *testing.T) {
	t.Parallel()
	g := NewGroup(Rules{})
	now := time.Unix(1000, 0)
	for i := range 10_001 {
		id := machine.ID(fmt.Sprint(i))
		if got, want := g.Join(id, Place{Rack: fmt.Sprint(i % 250)}, now), i < 10_000; got != want {
			t.Fatalf("member %d joins: got %v, want %v", i, got, want)
		}
		g.Report(id, State{URLs: []string{"u"}, RingBytes: 1 << 30, BytesPerSecond: 1, ReceivedBytes: 1}, now)
	}
	begin := time.Now()
	told := g.Plan(now)
	t.Logf("planned in %s", time.Since(begin))
	if got, want := g.Count(), (Count{Members: 10_000, Heads: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(told) != 10_000 {
		t.Errorf("%d members were told, want all", len(told))
	}
	crossings := 0
	for _, m := range g.members {
		if m.up != nil && m.up.place.Rack != m.place.Rack {
			crossings++
		}
	}
	if crossings != 249 {
		t.Errorf("%d links cross from rack to rack, want 249", crossings)
	}
	if again := g.Plan(now.Add(time.Second)); len(again) != 0 {
		t.Errorf("a second plan changes %d links, want none", len(again))
	}
}
