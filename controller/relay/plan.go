package relay

import (
	"cmp"
	"slices"
	"time"
)

// planned is what one Plan works out about a member.
type planned struct {
	est   float64 // position by now, in bytes
	depth int     // in the links that stay
	set   *member // union-find: members that are linked with each other
	kids  int     // healthy members that read from it
	slow  int     // slow ones that do
}

const (
	// maxSlow is how many slow members hang at one tail.
	maxSlow = 4
	// tellAgain is after how long a member is told again that does something else
	// than it was told.
	tellAgain = 3 * time.Second
	// ahead is how far a position is carried forward by the last known rate.
	ahead = 1500 * time.Millisecond
)

// Plan looks at all that is known, cuts links that do not hold, makes new ones,
// and gives what members have to be told. It costs O(n log n).
func (g *Group) Plan(now time.Time) []Upstream {
	live := g.live(now)
	g.measure(live, now)
	for _, m := range live {
		g.judge(m, now)
	}
	g.prune(live, now)
	g.probe(live, now)
	if g.enough(live) {
		g.link(live, now)
	}
	return g.news(now)
}

// live gives the members that are under way, those that are done and may still
// serve among them, and cuts all links of the others.
func (g *Group) live(now time.Time) []*member {
	var live []*member
	for _, m := range g.members {
		if !g.gone(m, now) {
			live = append(live, m)
		} else if m.up != nil {
			g.cut(m)
		}
	}
	slices.SortFunc(live, func(a, b *member) int { return cmp.Compare(a.number, b.number) })
	return live
}

// gone tells whether a member is passed over: it never spoke, is silent, or has
// not spoken since a peer said that it failed.
func (g *Group) gone(m *member, now time.Time) bool {
	return m.heard.IsZero() || now.Sub(m.heard) > g.rules.Silent || m.doubted.After(m.heard)
}

// measure works out where members are by now, and the best rate of the moment.
// What a head says of its own rate is believed as far as the member behind it, or
// a test, bears it out: heads are few, and one that boasts would make the others
// look slow.
func (g *Group) measure(live []*member, now time.Time) {
	g.ring = 0
	for _, m := range live {
		m.plan = planned{est: float64(m.state.Position) + m.pace.rate*min(now.Sub(m.heard), ahead).Seconds()}
		m.plan.set = m
		g.ring = max(g.ring, float64(m.state.RingBytes))
	}
	var all, heads []float64
	for _, m := range live {
		if m.state.Done || g.fresh(m) {
			continue
		}
		all = append(all, m.pace.rate)
		switch {
		case m.up == nil && m.probing.After(now):
			heads = append(heads, m.pace.rate)
		case m.up != nil && m.up.up == nil && !m.slow:
			heads = append(heads, min(m.pace.rate, m.up.pace.rate))
		}
	}
	g.best, g.bestHead = best(all), best(heads)
}

// best is the second of three and more rates, so that one member alone cannot make
// all others look slow; of fewer the first.
func best(rates []float64) float64 {
	slices.Sort(rates)
	switch n := len(rates); {
	case n == 0:
		return 0
	case n < 3:
		return rates[n-1]
	default:
		return rates[n-2]
	}
}

// fresh tells whether a member's rate says nothing yet of its source.
func (g *Group) fresh(m *member) bool {
	return m.pace.at.Add(-m.pace.span).Sub(m.since) < g.rules.Settle
}

// serves tells whether a member may be given to anybody.
func (g *Group) serves(m *member, now time.Time) bool {
	return !m.slow && len(m.state.URLs) > 0 && !m.idle.After(now)
}

// slack is how far members may be from where they are thought to be.
func (g *Group) slack() float64 { return max(g.best, g.ring/8) }

// holds tells whether the ring of up has what m needs next, with a part of the
// ring to spare for a new link.
func holds(up, m *member, spare float64) bool {
	return up.plan.est-float64(up.state.RingBytes)*(1-spare) <= m.plan.est
}

// cut ends a link.
func (g *Group) cut(m *member) {
	m.former, m.up, m.waited = m.up, nil, time.Time{}
	g.reforms++
}

// prune cuts the links that do not hold any more.
func (g *Group) prune(live []*member, now time.Time) {
	for _, m := range live {
		switch {
		case m.state.Done:
			m.up = nil
		case m.up != nil && !g.valid(m, now):
			g.cut(m)
		}
	}
	for _, m := range live {
		if m.up != nil && !m.slow {
			if m.up.plan.kids++; m.up.plan.kids > 1 {
				m.up.plan.kids--
				g.cut(m)
			}
		}
	}
	for _, m := range live {
		if m.up != nil && m.slow {
			if m.up.plan.kids > 0 {
				g.cut(m)
			} else {
				m.up.plan.slow++
			}
		}
	}
}

// valid tells whether a link of a living member may stay.
func (g *Group) valid(m *member, now time.Time) bool {
	up := m.up
	if g.gone(up, now) || !g.serves(up, now) || m.barred[up.id].After(now) || m.rest.After(now) {
		return false
	}
	return holds(up, m, 0) && m.plan.est <= up.plan.est+2*g.slack()
}

// enough tells whether the group is large enough for new links.
func (g *Group) enough(live []*member) bool {
	n := 0
	for _, m := range live {
		if !m.state.Done {
			n++
		}
	}
	return n >= g.rules.MinMembers
}

// news is what members have to be told: what is new, and what they do not do. A new
// member is told in any case, for it waits for a word before it begins.
func (g *Group) news(now time.Time) []Upstream {
	var news []Upstream
	for _, m := range g.members {
		if m.heard.IsZero() || m.state.Done {
			continue
		}
		want := Upstream{Member: m.id}
		if m.up != nil {
			want.Peer, want.URLs = m.up.id, m.up.state.URLs
		}
		same := want.Peer == m.told.Peer && slices.Equal(want.URLs, m.told.URLs)
		if same && !m.when.IsZero() && (m.state.Upstream == want.Peer || now.Sub(m.when) < tellAgain) {
			continue
		}
		if want.Peer != m.told.Peer {
			m.earlier = m.told.Peer
		}
		m.told, m.when = want, now
		news = append(news, want)
	}
	slices.SortFunc(news, func(a, b Upstream) int { return cmp.Compare(a.Member, b.Member) })
	return news
}
