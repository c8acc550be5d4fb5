package agentapi

import (
	"context"

	"golang.org/x/time/rate"
)

// How fast reports and lines of an agent's log are taken, in one second and at
// once. A faster agent waits: what it sends is not read. What may be kept of
// them at all is bounded by the store.
const (
	reportsPerSecond, reportsAtOnce    = 50, 500
	linesPerSecond, linesAtOnce        = 50, 2000
	strangerReports, strangersAtOnce   = 2, 50
	strangerLines, strangerLinesAtOnce = 2, 100
)

// pace is how fast one stream may go. Its methods may be called in parallel.
type pace struct{ reports, lines *rate.Limiter }

func newPace() *pace {
	return &pace{rate.NewLimiter(strangerReports, strangersAtOnce), rate.NewLimiter(strangerLines, strangerLinesAtOnce)}
}

// trust sets the pace of a machine that is approved, or is not.
func (p *pace) trust(approved bool) {
	if approved && p.reports.Limit() != reportsPerSecond {
		p.reports.SetLimit(reportsPerSecond)
		p.reports.SetBurst(reportsAtOnce)
		p.lines.SetLimit(linesPerSecond)
		p.lines.SetBurst(linesAtOnce)
	}
}

// report waits until one more report may be taken.
func (p *pace) report(ctx context.Context) error { return p.reports.Wait(ctx) }

// line reports whether one more line is written into our log.
func (p *pace) line() bool { return p.lines.Allow() }
