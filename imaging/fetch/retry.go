package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// RetryOptions for NewRetry; the zero value is usable.
type RetryOptions struct {
	// Patience is how long to go on without a single new byte (default 3
	// minutes: a controller that restarts is back by then).
	Patience time.Duration
	// FirstWait and LongestWait bound the wait between two attempts, which
	// doubles and is spread by a random half (defaults 200 ms and 10 s).
	FirstWait   time.Duration
	LongestWait time.Duration
	// MaxAttempts bounds the attempts in a row that together bring next to
	// nothing (default 200). One that brings more (16 KiB) is not counted, and
	// the next one follows it at once: that is a link that breaks, and works.
	MaxAttempts int
	// Notify, if not nil, hears of each failure that will be tried again; it
	// may be called from several goroutines.
	Notify func(err error, attempt int, wait time.Duration)
}

// worthBytes is what makes attempts worth their while.
const worthBytes = 16 << 10

// Retry asks again after temporary errors, from the first byte that is still
// missing.
type Retry struct {
	src  Source
	opts RetryOptions
}

// NewRetry wraps src.
func NewRetry(src Source, opts RetryOptions) *Retry {
	if opts.Patience <= 0 {
		opts.Patience = 3 * time.Minute
	}
	if opts.FirstWait <= 0 {
		opts.FirstWait = 200 * time.Millisecond
	}
	if opts.LongestWait <= 0 {
		opts.LongestWait = 10 * time.Second
	}
	if opts.MaxAttempts <= 0 {
		opts.MaxAttempts = 200
	}
	return &Retry{src: src, opts: opts}
}

// Suspect is Suspecter's.
func (r *Retry) Suspect(offset, length int64) { Suspect(r.src, offset, length) }

// Range is Source's; the first request is made before it returns, so that a
// permanent error shows at once.
func (r *Retry) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	b := &retryBody{r: r, ctx: ctx, offset: offset, left: length, wait: r.opts.FirstWait}
	if err := b.reopen(); err != nil {
		return nil, err
	}
	return b, nil
}

type retryBody struct {
	r        *Retry
	ctx      context.Context
	body     io.ReadCloser
	offset   int64 // of the first byte still missing
	left     int64
	attempts int
	brought  int64 // by the attempts counted
	wait     time.Duration
	failing  time.Time // of the first failure since the last byte; zero if none
}

func (b *retryBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if b.left <= 0 {
			return 0, io.EOF
		}
		if b.body == nil {
			if err := b.reopen(); err != nil {
				return 0, err
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
		if n > 0 {
			b.offset += int64(n)
			b.left -= int64(n)
			b.brought += int64(n)
			b.failing, b.wait = time.Time{}, b.r.opts.FirstWait
		}
		if err != nil && b.left > 0 {
			b.body.Close()
			b.body = nil
			if errors.Is(err, io.EOF) {
				err = &Error{Source: "source", Offset: b.offset, Length: b.left, Err: ErrShort}
			}
			if err := b.pause(err); err != nil {
				return n, err
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// reopen asks for the rest until a body is there or hope is gone.
func (b *retryBody) reopen() error {
	for {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		body, err := b.r.src.Range(b.ctx, b.offset, b.left)
		if err == nil {
			b.body = body
			return nil
		}
		if err := b.pause(err); err != nil {
			return err
		}
	}
}

// pause waits after a temporary error, and gives the error back when it is
// permanent or patience has ended.
func (b *retryBody) pause(err error) error {
	if Permanent(err) {
		return err
	}
	b.attempts++
	if b.failing.IsZero() {
		b.failing = time.Now()
	}
	idle := time.Since(b.failing)
	var wait time.Duration
	switch {
	case b.brought >= worthBytes:
		b.attempts, b.brought = 0, 0
	case idle >= b.r.opts.Patience || b.attempts >= b.r.opts.MaxAttempts:
		return fmt.Errorf("gave up after %d attempts that brought %d bytes, the last byte %s ago: %w",
			b.attempts, b.brought, idle.Round(time.Second), err)
	default:
		wait = b.nextWait(err)
	}
	if b.r.opts.Notify != nil {
		b.r.opts.Notify(err, b.attempts, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// nextWait is how long to leave the source alone, or as long as it asked for.
func (b *retryBody) nextWait(err error) time.Duration {
	wait := b.wait/2 + rand.N(b.wait/2+1)
	b.wait = min(2*b.wait, b.r.opts.LongestWait)
	var e *Error
	if errors.As(err, &e) {
		wait = max(wait, e.RetryAfter)
	}
	return wait
}

func (b *retryBody) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
