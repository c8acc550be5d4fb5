package power

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// breaker stops asking a BMC that failed several times in a row: for a time
// every call is refused at once, then one is let through to see. Refused
// credentials open it at the first time, as BMCs lock accounts, but only for
// who brings the same ones again.
type breaker struct {
	bmc   string
	after int
	pause time.Duration

	mu      sync.Mutex
	fails   int
	until   time.Time
	trying  bool
	last    error
	refused accessKey // the access whose credentials were refused last
}

// layer guards the calls of one access.
func (b *breaker) layer(key accessKey) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		if err := b.enter(c, key); err != nil {
			return err
		}
		err := next(ctx)
		b.leave(ctx, key, err)
		return err
	}
}

func (b *breaker) enter(c call, key accessKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() || (KindOf(b.last) == ErrCredentials && key != b.refused) {
		return nil
	}
	left := time.Until(b.until)
	if left <= 0 && !b.trying {
		b.trying = true
		return nil
	}
	left = max(left, time.Second)
	return &Error{Kind: ErrBusy, BMC: b.bmc, Asked: c.name, RetryAfter: left, Err: b.last,
		Got: fmt.Sprintf("not begun: this BMC is left alone for %s after %d failures, the last one: %v", left.Round(time.Second), b.fails, b.last),
		Do:  "look after the BMC, or wait"}
}

// leave counts. Errors that prove a BMC which listens and understands
// (unsupported, ignored) count as success.
func (b *breaker) leave(ctx context.Context, key accessKey, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch k := KindOf(err); {
	case err == nil, k == ErrUnsupported, k == ErrIgnored:
		b.fails, b.until, b.last = 0, time.Time{}, nil
		return
	case ctx.Err() != nil && k == ErrBusy:
		return // never reached the BMC
	case k == ErrCredentials:
		b.fails, b.refused = max(b.fails+1, b.after), key
	default:
		b.fails++
	}
	b.last = err
	if b.fails >= b.after {
		b.until = time.Now().Add(b.pause)
	}
}
