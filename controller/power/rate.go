package power

import (
	"context"

	"golang.org/x/time/rate"
)

// limited spaces out the calls to one BMC: small processors that stop
// answering, or reboot, when they are asked too often.
func limited(bmc string, l *rate.Limiter) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		if err := l.Wait(ctx); err != nil {
			return &Error{Kind: ErrBusy, BMC: bmc, Asked: c.name,
				Got: "not begun: too many calls to this BMC", Do: "ask again later", Err: err}
		}
		return next(ctx)
	}
}
