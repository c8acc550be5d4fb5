package power

import (
	"context"
	"errors"
	"time"
)

// limitTime gives every call its own end: limit from now, or margin before the
// caller's own deadline (its lease) if that comes first. So a call has ended,
// and its outcome can be written down, while the caller may still act. A call
// for which too little time is left is refused before it changes anything.
func limitTime(bmc string, limit, margin time.Duration) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		if err := ctx.Err(); err != nil {
			return &Error{Kind: ErrBusy, BMC: bmc, Asked: c.name, Got: "not begun: the caller gave up", Err: err}
		}
		end := time.Now().Add(limit)
		if d, ok := ctx.Deadline(); ok && d.Add(-margin).Before(end) {
			end = d.Add(-margin)
		}
		if time.Until(end) < margin {
			return &Error{Kind: ErrBusy, BMC: bmc, Asked: c.name,
				Got: "not begun: too little time before the caller's limit", Do: "ask again with a new lease"}
		}
		ctx, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		err := next(ctx)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			kind := ErrProtocol
			if ctx.Err() != nil {
				kind = ErrTimeout
			}
			err = &Error{Kind: kind, BMC: bmc, Asked: c.name, Got: Clean(err.Error()), Err: err}
		}
		return err
	}
}
