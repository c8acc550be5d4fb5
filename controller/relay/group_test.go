package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// chain makes a group whose members read from each other in order, all of them
// at the same rate.
func chain(n int, now time.Time) *Group {
	g := NewGroup(Rules{})
	for i := range n {
		g.Join(nth(i), Place{}, now)
		g.Report(nth(i), at(n-i), now)
	}
	g.Plan(now)
	return g
}

func at(position int) State {
	return State{URLs: []string{"u"}, RingBytes: 1 << 20, Position: uint64(position), ReceivedBytes: uint64(position)}
}

func upstreamOf(g *Group, i int) machine.ID {
	if m := g.members[nth(i)]; m.up != nil {
		return m.up.id
	}
	return ""
}

func TestAccusations(t *testing.T) {
	t.Parallel()
	type word struct {
		by, of  int
		failure string
	}
	for _, c := range []struct {
		name    string
		words   []word
		slow    int    // who is slow; -1: nobody
		passed  bool   // 1 is passed over until it speaks again
		idle    bool   // 1 serves nobody for a while
		reading string // what 2 reads from
	}{
		{"none", nil, -1, false, false, "m1"},
		{"one", []word{{2, 1, "stalled"}}, -1, true, false, "m0"},
		{"two", []word{{2, 1, "stalled"}, {3, 1, "unreachable"}}, -1, true, true, "m0"},
		{"the same twice", []word{{2, 1, "stalled"}, {2, 1, "stalled"}}, -1, true, false, "m0"},
		{"whom it never was sent to", []word{{4, 1, "stalled"}}, -1, false, false, "m1"},
		{"moved on", []word{{2, 1, "gone"}}, -1, false, false, ""},
		{"by a slow one", []word{{2, 1, "stalled"}}, 2, false, false, ""},
		{"by who accuses everybody", []word{{2, 5, "stalled"}, {2, 4, "stalled"}, {2, 3, "stalled"}, {2, 1, "stalled"}}, -1, false, false, ""},
		{"of itself, and of nobody", []word{{2, 2, "stalled"}, {2, 99, "stalled"}}, -1, false, false, "m1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1000, 0)
			g := chain(6, now)
			if c.slow >= 0 {
				g.members[nth(c.slow)].slow = true
			}
			now = now.Add(100 * time.Millisecond)
			for _, w := range c.words {
				if w.by != 4 {
					g.members[nth(w.by)].earlier = nth(w.of)
				}
				s := at(6 - w.by)
				s.Failed, s.Failure = nth(w.of), w.failure
				g.Report(nth(w.by), s, now)
			}
			one := g.members["m1"]
			if got := g.gone(one, now); got != c.passed {
				t.Errorf("passed over: got %v, want %v", got, c.passed)
			}
			if got := one.idle.After(now); got != c.idle {
				t.Errorf("out of use: got %v, want %v", got, c.idle)
			}
			g.Plan(now)
			if got := string(upstreamOf(g, 2)); c.slow < 0 && got != c.reading {
				t.Errorf("2 reads from %q, want %q", got, c.reading)
			}
			now = now.Add(100 * time.Millisecond)
			g.Report("m1", at(5), now)
			if g.gone(one, now) {
				t.Error("passed over although it has spoken")
			}
		})
	}
}

func TestBelowTheCrossoverNobodyIsLinked(t *testing.T) {
	t.Parallel()
	for n := range 5 {
		g := chain(n, time.Unix(1000, 0))
		heads := n
		if n >= 3 {
			heads = 1
		}
		if got, want := g.Count(), (Count{Members: n, Heads: heads}); got != want {
			t.Errorf("%d members: got %+v, want %+v", n, got, want)
		}
	}
}

func TestLateJoiners(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	g := NewGroup(Rules{})
	for i := range 4 {
		s := at(1_000_000 - i)
		s.RingBytes = 1000
		g.Join(nth(i), Place{}, now)
		g.Report(nth(i), s, now)
	}
	for i := 4; i < 8; i++ {
		g.Join(nth(i), Place{}, now)
		g.Report(nth(i), at(0), now)
	}
	g.Plan(now)
	if got, want := fmt.Sprint(upstreamOf(g, 0), upstreamOf(g, 4), upstreamOf(g, 5)), fmt.Sprint("", "", "m4"); got != want {
		t.Errorf("got %q, want a second chain behind m4: %q", got, want)
	}
	if got := g.Count().Heads; got != 2 {
		t.Errorf("%d heads, want 2", got)
	}
}
