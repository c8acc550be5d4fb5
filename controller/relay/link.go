package relay

import (
	"cmp"
	"slices"
	"time"
)

// link gives upstreams to those who have none and want one: first to whoever lost
// a link, the place before the one that it lost; then to the healthy by position,
// rack and subnet; then to the slow, at tails; last to the healthy that are
// thought to be just ahead of everybody free.
func (g *Group) link(live []*member, now time.Time) {
	g.depths(live)
	order := slices.Clone(live)
	slices.SortFunc(order, func(a, b *member) int {
		return cmp.Or(cmp.Compare(b.plan.est, a.plan.est), cmp.Compare(a.plan.depth, b.plan.depth),
			cmp.Compare(a.place.Rack, b.place.Rack), cmp.Compare(a.place.Subnet, b.place.Subnet), cmp.Compare(a.number, b.number))
	})
	for _, m := range order {
		if g.wants(m, now) && !m.slow {
			g.before(m, now)
		}
	}
	g.sweep(order, now, false)
	g.sweep(order, now, true)
	g.nearly(order, now)
}

// depths fills in depth and sets from the links that stay.
func (g *Group) depths(live []*member) {
	for _, m := range live {
		var path []*member
		at := m
		for ; at.up != nil && at.plan.depth == 0; at = at.up {
			path = append(path, at)
		}
		depth := at.plan.depth
		for i := len(path) - 1; i >= 0; i-- {
			depth++
			path[i].plan.depth = depth
		}
		if m.up != nil {
			find(m).plan.set = find(m.up)
		}
	}
}

// find gives the representative of a member's tree, and shortens the way to it.
func find(m *member) *member {
	for m.plan.set != m {
		m.plan.set = m.plan.set.plan.set
		m = m.plan.set
	}
	return m
}

// wants tells whether a member is on HTTP and may be linked.
func (g *Group) wants(m *member, now time.Time) bool {
	return m.up == nil && !m.state.Done && !m.probing.After(now) && !m.rest.After(now)
}

// fits tells whether a member may read from another. behind is by how much the
// other may be thought to be behind.
func (g *Group) fits(m, up *member, now time.Time, behind float64) bool {
	switch {
	case up == m || up.state.Done || g.gone(up, now) || !g.serves(up, now) || m.barred[up.id].After(now):
		return false
	case up.plan.kids > 0 || m.slow && up.plan.slow >= maxSlow:
		return false
	case up.plan.est+behind < m.plan.est || !holds(up, m, 0.25):
		return false
	}
	return find(up) != find(m)
}

// attach makes a link.
func (g *Group) attach(m, up *member, now time.Time) {
	m.up, m.former, m.since, m.waited = up, nil, now, time.Time{}
	if m.slow {
		up.plan.slow++
	} else {
		up.plan.kids++
	}
	find(m).plan.set = find(up)
}

// before links a member to the one before the peer that it lost, over as many as
// are gone too.
func (g *Group) before(m *member, now time.Time) {
	at := m.former
	for range maxBarred {
		if at == nil || g.members[at.id] != at {
			break
		}
		if !at.probing.After(now) && g.fits(m, at, now, g.slack()) {
			g.attach(m, at, now)
			return
		}
		if at.up != nil {
			at = at.up
		} else {
			at = at.former
		}
	}
	m.former = nil
}

// sweep goes from the foremost member to the last, with those it has passed as
// candidates, and links the healthy ones, or the slow ones.
func (g *Group) sweep(order []*member, now time.Time, slow bool) {
	passed := map[string]*stack{}
	at := func(name string) *stack {
		if passed[name] == nil {
			passed[name] = &stack{}
		}
		return passed[name]
	}
	for _, m := range order {
		names := [3]string{"r" + m.place.Rack, "s" + m.place.Subnet, ""}
		if g.wants(m, now) && m.slow == slow {
			for _, name := range names {
				if name == "r" || name == "s" {
					continue // not known
				}
				if up := at(name).nearest(func(c *member) bool { return g.fits(m, c, now, 0) }); up != nil {
					g.attach(m, up, now)
					break
				}
			}
		}
		if m.plan.kids == 0 && g.serves(m, now) && !m.state.Done && !m.probing.After(now) {
			for _, name := range names {
				at(name).push(m)
			}
		}
	}
}

// maxNearly bounds how many members nearly looks at.
const maxNearly = 64

// nearly links healthy members that seem a little ahead of all that are free:
// positions are guesses, and who waits a moment for its upstream loses little.
// The foremost of all is a head by right.
func (g *Group) nearly(order []*member, now time.Time) {
	tried := 0
	for i, m := range order {
		if i == 0 || m.slow || !g.wants(m, now) || tried == maxNearly {
			continue
		}
		tried++
		for _, up := range order[i+1:] {
			if up.plan.est+g.slack()/2 < m.plan.est {
				break
			}
			if !up.probing.After(now) && g.fits(m, up, now, g.slack()/2) {
				g.attach(m, up, now)
				break
			}
		}
	}
}

// stack holds members by falling position.
type stack struct{ members []*member }

func (s *stack) push(m *member) { s.members = append(s.members, m) }

// nearest gives the last pushed that fits. Those that were taken since are thrown
// away; of the rest a few are looked at.
func (s *stack) nearest(fits func(*member) bool) *member {
	for n := len(s.members); n > 0 && s.members[n-1].plan.kids > 0; n-- {
		s.members = s.members[:n-1]
	}
	for i, looked := len(s.members)-1, 0; i >= 0 && looked < maxBarred; i-- {
		if c := s.members[i]; c.plan.kids == 0 {
			if looked++; fits(c) {
				return c
			}
		}
	}
	return nil
}
