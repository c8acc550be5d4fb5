package relay

import "time"

const (
	// slowShare of the best rate is what a member must reach that has data
	// waiting; recoverShare what a slow one must reach to count as healthy again,
	// recoverStates times in a row.
	// One that stays below a half of that is slow at once, others at the second
	// pace in a row: a disk or a busy core may hold anybody up for a moment.
	slowShare     = 0.5
	slowStates    = 2
	recoverShare  = 0.75
	recoverStates = 2
	// backlog is how much must be waiting, in seconds of the best rate.
	backlog = 0.25
	// leastWaited is for how long of a pace's time data must have waited.
	leastWaited = 200 * time.Millisecond
	// A head is put to the test when the best rate is below suspectShare of what
	// the members' links could do, at most probes times, for probeTime each.
	suspectShare = 0.45
	maxProbes    = 2
	probeTime    = 1800 * time.Millisecond
)

// judge decides whether a member is slow: data waited at its source, and it took
// it at less than half of the best rate of the moment. Each pace is judged once, by
// the part of its time in which data waited.
func (g *Group) judge(m *member, now time.Time) {
	if !g.waits(m) {
		m.waited = time.Time{}
	} else if m.waited.IsZero() {
		m.waited = now
	}
	if m.state.Done || !m.pace.at.After(m.judged) {
		return
	}
	m.judged = m.pace.at
	waited := min(m.pace.at.Sub(m.waited), m.pace.span)
	best := g.best
	if m.up == nil {
		best = g.bestHead // the controller's uplink is shared, maybe by many
	}
	if g.fresh(m) || best == 0 {
		return
	}
	rate := m.pace.rate
	switch {
	case m.slow && rate >= recoverShare*g.best:
		if m.fast++; m.fast >= recoverStates {
			m.slow = false
		}
	case m.slow:
		m.fast = 0
	case m.waited.IsZero() || waited < leastWaited || !m.obeys():
	case rate >= slowShare*best*waited.Seconds()/m.pace.span.Seconds():
		m.late = 0
	case rate >= slowShare/2*best*waited.Seconds()/m.pace.span.Seconds() && m.late+1 < slowStates:
		m.late++
	default:
		m.slow, m.fast, m.late = true, 0, 0
		g.blame(m, now)
		if m.up != nil {
			g.cut(m)
			m.former = nil // it goes to a tail, not to its old place
		}
	}
}

// obeys tells whether a member reads where it was told to.
func (m *member) obeys() bool {
	if m.up == nil {
		return m.state.Upstream == ""
	}
	return m.state.Upstream == m.up.id
}

// waits tells whether there is data at the source of m that it has not taken. The
// controller has all of it.
func (g *Group) waits(m *member) bool {
	return m.up == nil || m.state.Waiting && m.obeys() || m.up.plan.est-m.plan.est > backlog*g.best
}

// blame notes who served a member that became slow. When that member is well
// elsewhere, and another one becomes slow in its place, it is the peer that cannot
// serve.
func (g *Group) blame(m *member, now time.Time) {
	up := m.up
	if up == nil {
		return
	}
	was, at := up.starved, up.starvedAt
	up.starved, up.starvedAt = m, now
	if was != nil && was != m && !was.slow && g.members[was.id] == was && now.Sub(at) < g.rules.Bar {
		up.idle, m.slow = now.Add(g.rules.Bar), false
	}
}

// heads is how many healthy members are on HTTP: with several, they are compared
// with each other anyhow.
func (g *Group) heads(live []*member) int {
	n := 0
	for _, m := range live {
		if m.up == nil && !m.slow && !m.state.Done {
			n++
		}
	}
	return n
}

// probe tests a head whose chain is slower than the members' links: its child
// reads from the controller beside it for a moment. If the head is what is slow,
// the child is soon twice as fast, and judge sees it; if not, the child comes back.
func (g *Group) probe(live []*member, now time.Time) {
	var link uint64
	for _, m := range live {
		if link = max(link, m.place.LinkBytesPerSecond); m.probing.After(now) {
			return // one at a time
		}
	}
	if g.best == 0 || g.heads(live) > 1 || link > 0 && g.best >= suspectShare*float64(link) {
		return
	}
	for _, m := range live {
		head := m.up
		if head == nil || head.up != nil || m.slow || m.state.Done || head.state.Done || head.probes >= maxProbes {
			continue
		}
		if g.fresh(m) || g.fresh(head) || !m.obeys() {
			continue
		}
		head.probes++
		g.cut(m)
		head.plan.kids--
		m.probing, m.since = now.Add(probeTime), now
		return
	}
}
