package power

import (
	"sync"
	"time"
)

// Latency is what was learned about one BMC: how long it takes to answer, and
// how long until an order has happened. Safe for concurrent use.
type Latency struct {
	mu     sync.Mutex
	learnt map[string]time.Duration
}

// The names under which times are kept besides the calls' own.
const (
	effectOn  = "effect of power on"
	effectOff = "effect of power off"
)

// Learn mixes a new measurement in: a slower one counts half, a quicker one a
// quarter, so that limits grow faster than they shrink.
func (l *Latency) Learn(what string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learnt == nil {
		l.learnt = make(map[string]time.Duration)
	}
	old, ok := l.learnt[what]
	switch {
	case !ok:
		l.learnt[what] = took
	case took > old:
		l.learnt[what] = old + (took-old)/2
	default:
		l.learnt[what] = old - (old-took)/4
	}
}

// Of gives the learned time, zero if nothing is known.
func (l *Latency) Of(what string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.learnt[what]
}
