package egress

import (
	"context"
	"sync"
	"time"
)

// Gate makes senders wait for their turns. A nil Gate lets everybody pass at
// once. Its methods may be called in parallel.
type Gate struct {
	mu    sync.Mutex // guards the fields below
	plan  *Scheduler
	timer *time.Timer
}

// NewGate gives nil when nothing is limited.
func NewGate(l Limits) *Gate {
	if l.None() {
		return nil
	}
	return &Gate{plan: NewScheduler(l)}
}

// Wait returns when bytes of the flow may be sent, or with ctx's error.
func (g *Gate) Wait(ctx context.Context, f Flow, bytes int64) error {
	if g == nil {
		return ctx.Err()
	}
	g.mu.Lock()
	t := g.plan.Add(f, bytes)
	t.ready = make(chan struct{})
	g.look()
	g.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plan.Drop(t)
	return ctx.Err()
}

// look lets go who may, and comes back when the next one may. The timer runs
// only while somebody waits.
func (g *Gate) look() {
	turns, wait := g.plan.Next(time.Now())
	for _, t := range turns {
		close(t.ready)
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	if wait > 0 {
		g.timer = time.AfterFunc(wait, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.look()
		})
	}
}
