// Package fetch reads ranges of an image's packed file, from wherever they can
// be had, until they have been had.
//
// One interface, Source, and wrappers of it: HTTP asks one URL, File reads a
// local file, Mirrors chooses among several sources, Retry resumes what broke
// off. Open puts them together the usual way:
//
//	Retry ── Mirrors ──┬── HTTP https://controller-1/images/…/frames
//	                   └── HTTP https://controller-2/images/…/frames
//
// What arrives is not trusted here: whoever asked for a range holds the
// manifest, checks each frame's packed hash before it decodes, and says
// Suspect when a source delivered something else.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Source reads ranges of one packed file. Calls are allowed in parallel.
type Source interface {
	// Range gives exactly length bytes from offset on, or its reader ends in an
	// error other than io.EOF. The caller closes the reader; ctx covers reading
	// too. Errors are *Error unless ctx ended, whose error is then returned;
	// Permanent tells whether asking again can help.
	Range(ctx context.Context, offset, length int64) (io.ReadCloser, error)
}

// Suspecter is a Source that has a choice. Suspect tells it that the bytes
// from offset on did not hash to what the manifest says, so that the next
// Range there asks somebody else if possible.
type Suspecter interface {
	Suspect(offset, length int64)
}

// Suspect passes the word on if src listens.
func Suspect(src Source, offset, length int64) {
	if s, ok := src.(Suspecter); ok {
		s.Suspect(offset, length)
	}
}

// Causes that Error wraps besides those of the network.
var (
	ErrChanged  = errors.New("the file behind the URL changed while it was read")
	ErrNoRanges = errors.New("the server does not serve byte ranges")
	ErrShort    = errors.New("the answer ended early")
	ErrStalled  = errors.New("no bytes arrived for too long")
)

// Error is a range that could not be read from one source.
type Error struct {
	Source     string // a URL without its query, or what File was told
	Offset     int64  // of the range asked for
	Length     int64
	Status     int           // of HTTP; 0 if there was no answer
	Permanent  bool          // asking this source again cannot help
	RetryAfter time.Duration // what the server asked for; 0 if nothing
	Err        error
}

func (e *Error) Error() string {
	if e.Length == 0 {
		return fmt.Sprintf("read %s: %v", e.Source, e.Err)
	}
	return fmt.Sprintf("read bytes %d to %d of %s: %v", e.Offset, e.Offset+e.Length-1, e.Source, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Permanent tells whether repeating the request that gave err is pointless:
// 401, 403, 404, 410, 412 and 416, a changed file, a certificate that does not
// verify, and an ended context. What is unknown counts as temporary.
func Permanent(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var e *Error
	return errors.As(err, &e) && e.Permanent
}

// Options for Open; the zero value is what an agent wants.
type Options struct {
	HTTP  HTTPOptions
	Retry RetryOptions
}

// Open gives the source of a packed file at one or more URLs, tried in that
// order. No request is made yet.
func Open(urls []string, opts Options) (Source, error) {
	if len(urls) == 0 {
		return nil, errors.New("open image: no URL to fetch it from")
	}
	sources := make([]Source, 0, len(urls))
	for _, u := range urls {
		src, err := NewHTTP(u, opts.HTTP)
		if err != nil {
			return nil, err
		}
		sources = append(sources, src)
	}
	return NewRetry(NewMirrors(sources...), opts.Retry), nil
}
