package session

import (
	"context"
	"math/rand/v2"
	"time"
)

// pauses grow from first to longest; each is spread by a random half, so that
// a thousand agents do not come back at once.
type pauses struct{ first, longest, next time.Duration }

func (s *Session) newBackoff() *pauses {
	return &pauses{first: s.cfg.FirstWait, longest: s.cfg.LongestWait, next: s.cfg.FirstWait}
}

func (p *pauses) reset() { p.next = p.first }

// pause waits, or returns why ctx ended.
func (p *pauses) pause(ctx context.Context) error {
	d := p.next/2 + rand.N(p.next/2+1)
	p.next = min(2*p.next, p.longest)
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
