package power

import (
	"context"
	"fmt"
)

// maxWaiting bounds how many calls may queue for one BMC.
const maxWaiting = 32

// gate lets one call at a time through to a BMC, and a bounded number wait.
type gate struct {
	bmc  string
	turn chan struct{} // holds one token
	wait chan struct{} // one slot for each call inside or waiting
}

func newGate(bmc string) *gate {
	g := &gate{bmc: bmc, turn: make(chan struct{}, 1), wait: make(chan struct{}, maxWaiting)}
	g.turn <- struct{}{}
	return g
}

func (g *gate) layer(ctx context.Context, c call, next func(context.Context) error) error {
	select {
	case g.wait <- struct{}{}:
		defer func() { <-g.wait }()
	default:
		return &Error{Kind: ErrBusy, BMC: g.bmc, Asked: c.name,
			Got: fmt.Sprintf("not begun: %d calls already wait for this BMC", maxWaiting), Do: "ask again later"}
	}
	select {
	case <-g.turn:
		defer func() { g.turn <- struct{}{} }()
	case <-ctx.Done():
		return &Error{Kind: ErrBusy, BMC: g.bmc, Asked: c.name,
			Got: "not begun: another call to this BMC was still going on", Do: "ask again later", Err: ctx.Err()}
	}
	return next(ctx)
}
