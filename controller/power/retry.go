package power

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// maxPause is the longest a call waits between two tries. A BMC that wants
// more gets its error passed on, with RetryAfter: waiting minutes is the
// lifecycle engine's work, which keeps no goroutine for it.
const maxPause = 5 * time.Second

// retry asks again after temporary errors, up to tries times in all, and up to
// twice when the BMC was silent. Calls that act anew each time are repeated
// only when they certainly did not arrive. A try that limitTime would refuse
// for want of time is not begun, so that the first error is the one told.
func retry(tries int, first, margin time.Duration) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		pause := first
		for n := 1; ; n++ {
			err := next(ctx)
			if err == nil || n >= tries || !Temporary(err) || ctx.Err() != nil {
				return err
			}
			var e *Error
			errors.As(err, &e)
			if e.Kind == ErrTimeout && (!c.again || n >= 2) {
				return err
			}
			wait := max(e.RetryAfter, pause/2+rand.N(pause/2+1))
			if wait > maxPause {
				return err
			}
			if d, ok := ctx.Deadline(); ok && time.Until(d) < wait+3*margin {
				return err
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return err
			}
			pause *= 2
		}
	}
}
