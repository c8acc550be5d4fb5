package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Errors by which callers decide, besides ErrRefused.
var (
	// ErrAnswer: the server answers, and does not give the file.
	ErrAnswer = errors.New("the server does not give the file")
	// ErrChanged: it was another file when the download was resumed.
	ErrChanged = errors.New("the source changed while it was read")
	// ErrTooLarge: more bytes than allowed.
	ErrTooLarge = errors.New("the source is larger than allowed")
	// ErrUnavailable: every try of a while was in vain, or all took too long.
	ErrUnavailable = errors.New("the source cannot be reached")
)

// Options for New; the zero value is usable.
type Options struct {
	Policy Policy
	// MaxBytes of one file (default 1 TiB).
	MaxBytes int64
	// IdleLimit is how long a connection may be silent (default 1 minute).
	IdleLimit time.Duration
	// TotalLimit is for one file with all its tries (default 12 hours).
	TotalLimit time.Duration
	// Tries may fail one after the other without a byte more than before
	// (default 6). Between them are pauses of Pause, 2 Pause, 4 Pause ... up to
	// 32 (default 1 s), give or take a quarter.
	Tries int
	Pause time.Duration
}

// Client fetches files. Its methods may be called in parallel.
type Client struct {
	policy   Policy
	o        Options
	resolver *net.Resolver // nil: the system's
}

// New gives a client.
func New(o Options) *Client {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 40
	}
	if o.IdleLimit <= 0 {
		o.IdleLimit = time.Minute
	}
	if o.TotalLimit <= 0 {
		o.TotalLimit = 12 * time.Hour
	}
	if o.Tries <= 0 {
		o.Tries = 6
	}
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	return &Client{policy: o.Policy, o: o}
}

// Request is what to fetch.
type Request struct {
	URL string
	// Hashed says that the bytes will be compared with a hash or a signature. An
	// answer that ends with its connection is taken only then, for it could have
	// been cut off.
	Hashed bool
	// Progress, if not nil, is told the bytes that are there and all that will
	// be, 0 if not known; it may go back to 0. It is called for every piece.
	Progress func(done, total int64)
	// Room, if not nil, is asked now and then whether so many bytes more may be
	// kept; an error ends the download.
	Room func(more int64) error
}

// File takes the bytes; *os.File is one.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Check judges a URL without fetching anything.
func (c *Client) Check(url string) error {
	_, err := c.policy.parse(url)
	return err
}

// Fetch writes the file to an empty one. Errors wrap one of this package's,
// ctx's, or those of writing. After an error some bytes may be there.
func (c *Client) Fetch(ctx context.Context, r Request, to File) (size int64, err error) {
	u, err := c.policy.parse(r.URL)
	if err != nil {
		return 0, fmt.Errorf("fetch source: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.TotalLimit, fmt.Errorf("%w: it took more than %s", ErrUnavailable, c.o.TotalLimit))
	defer cancel()
	if r.Progress == nil {
		r.Progress = func(int64, int64) {}
	}
	if r.Room == nil {
		r.Room = func(int64) error { return nil }
	}
	t := &transfer{c: c, r: r, to: to, start: way{url: u}, total: -1}
	if err := t.run(ctx); err != nil {
		return t.done, fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	}
	return t.done, nil
}

// run tries until the file is there or there is no hope.
func (t *transfer) run(ctx context.Context) error {
	for failed := 0; ; {
		before := t.best
		wait, err := t.try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var w *writeError
		if permanent(err) || errors.As(err, &w) {
			return err
		}
		if failed++; t.best > before {
			failed = 1
		}
		if failed >= t.c.o.Tries {
			return fmt.Errorf("%w after %d tries: %w", ErrUnavailable, failed, err)
		}
		if err := t.c.pause(ctx, failed, wait); err != nil {
			return err
		}
	}
}

// pause waits longer each time, and as long as the server asks for.
func (c *Client) pause(ctx context.Context, failed int, atLeast time.Duration) error {
	d := c.o.Pause << min(failed-1, 5)
	d = max(d*3/4+rand.N(d/2+1), atLeast)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryAfter is what a server asks for (RFC 9110 section 10.2.3), at most a
// minute.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(min(n, 60))*time.Second, time.Minute)
}
