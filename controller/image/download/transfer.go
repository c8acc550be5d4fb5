package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// transfer is one file on its way.
type transfer struct {
	c     *Client
	r     Request
	to    File
	start way

	from     *way // where the first bytes came from; nil before
	validity validators
	total    int64 // -1 if not known
	done     int64 // bytes that are in the file
	best     int64 // the most that done ever was
	room     int64 // bytes that may be kept without asking again
}

// validators tell one version of a file from another (RFC 9110 section 8.8).
type validators struct{ etag, date string }

func (v validators) none() bool { return v.etag == "" && v.date == "" }

// condition is what If-Range takes: no weak ETag (section 13.1.5).
func (v validators) condition() string {
	if v.etag != "" && !strings.HasPrefix(v.etag, "W/") {
		return v.etag
	}
	return v.date
}

// differ compares what both have.
func (v validators) differ(o validators) bool {
	if v.etag != "" && o.etag != "" {
		return v.etag != o.etag
	}
	return v.date != "" && o.date != "" && v.date != o.date
}

// writeError is of the file, which no other try mends.
type writeError struct{ err error }

func (e *writeError) Error() string { return "keep source: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// try makes one request, for what is missing where that is possible.
func (t *transfer) try(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{"User-Agent": {"ingot-import"}, "Accept-Encoding": {"identity"}}
	resumes := t.done > 0 && t.validity.condition() != ""
	if resumes {
		header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
		header.Set("If-Range", t.validity.condition())
	}
	w := t.start
	if t.from != nil {
		w = *t.from
	}
	resp, w, err := t.c.get(ctx, w, header)
	if err != nil {
		return 0, err
	}
	body := newIdleBody(resp.Body, t.c.o.IdleLimit, cancel)
	defer body.Close()
	if err := t.judge(resp, resumes); err != nil {
		return retryAfter(resp.Header), err
	}
	t.from = &w
	if err = t.copy(body); err != nil && errors.Is(context.Cause(ctx), errIdle) {
		err = fmt.Errorf("after %d bytes: %w", t.done, errIdle)
	}
	return 0, err
}

// judge reads the head of an answer, and sets where its body goes.
func (t *transfer) judge(resp *http.Response, resumes bool) error {
	now := validators{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return t.whole(resp, now)
	case code == http.StatusPartialContent && resumes:
		return t.part(resp, now)
	case code == http.StatusRequestedRangeNotSatisfiable && resumes:
		return fmt.Errorf("%w: it is shorter now", ErrChanged)
	case code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported,
		code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return fmt.Errorf("it answers %s", resp.Status)
	case t.from != nil && t.from.url.String() != t.start.url.String() && code >= 400:
		// The place that we were sent to may have been for a short time only.
		outer := t.from.outer
		t.from = nil
		t.start.outer = outer
		return fmt.Errorf("it answers %s where it was before", resp.Status)
	}
	return fmt.Errorf("%w: it answers %s", ErrAnswer, resp.Status)
}

// whole is a file from its start: the first time, or since it cannot be resumed.
func (t *transfer) whole(resp *http.Response, now validators) error {
	first := t.from == nil && t.validity.none() && t.total < 0
	if !first && (t.validity.differ(now) || t.total >= 0 && resp.ContentLength >= 0 && resp.ContentLength != t.total) {
		return ErrChanged
	}
	if resp.ContentLength < 0 && !slices.Contains(resp.TransferEncoding, "chunked") && !t.r.Hashed {
		return fmt.Errorf("%w: it does not say how long it is, so nobody could tell whether all of it came: state a SHA-256", ErrRefused)
	}
	if t.done > 0 {
		t.done = 0
		if err := t.to.Truncate(0); err != nil {
			return &writeError{err}
		}
	}
	t.validity = now
	t.total = max(t.total, resp.ContentLength)
	return t.checkSize()
}

// part is what is missing of a file (RFC 9110 section 15.3.7).
func (t *transfer) part(resp *http.Response, now validators) error {
	first, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if !ok || first != t.done {
		return fmt.Errorf("%w: asked for the bytes from %d on it sends %.60q", ErrAnswer, t.done, resp.Header.Get("Content-Range"))
	}
	if t.validity.differ(now) || t.total >= 0 && total >= 0 && total != t.total {
		return ErrChanged
	}
	t.total = max(t.total, total)
	return t.checkSize()
}

func (t *transfer) checkSize() error {
	if t.total > t.c.o.MaxBytes {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, t.total, t.c.o.MaxBytes)
	}
	if t.total > t.done {
		if err := t.r.Room(t.total - t.done); err != nil {
			return &writeError{err}
		}
	}
	t.r.Progress(t.done, max(t.total, 0))
	return nil
}

// parseContentRange reads "bytes 5-9/10"; total is -1 for a star.
func parseContentRange(s string) (first, total int64, ok bool) {
	s, found := strings.CutPrefix(s, "bytes ")
	span, all, ok := strings.Cut(s, "/")
	from, to, ok2 := strings.Cut(span, "-")
	first, err := strconv.ParseInt(from, 10, 63)
	last, err2 := strconv.ParseInt(to, 10, 63)
	total = -1
	var err3 error
	if all != "*" {
		total, err3 = strconv.ParseInt(all, 10, 63)
	}
	good := found && ok && ok2 && err == nil && err2 == nil && err3 == nil && first >= 0 && last >= first && (total < 0 || last == total-1)
	return first, total, good
}

// roomStep is how many bytes are kept between two questions for room.
const roomStep = 16 << 20

func (t *transfer) copy(body io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := t.keep(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && t.total >= 0 && t.done < t.total:
			return fmt.Errorf("it ended after %d of %d bytes: %w", t.done, t.total, io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", t.done, err)
		}
	}
}

func (t *transfer) keep(p []byte) error {
	if t.total >= 0 && int64(len(p)) > t.total-t.done {
		return fmt.Errorf("%w: it sends more than the %d bytes it spoke of", ErrAnswer, t.total)
	}
	if int64(len(p)) > t.c.o.MaxBytes-t.done {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, t.c.o.MaxBytes)
	}
	if t.room -= int64(len(p)); t.room < 0 {
		t.room = roomStep
		if err := t.r.Room(roomStep); err != nil {
			return &writeError{err}
		}
	}
	if _, err := t.to.WriteAt(p, t.done); err != nil {
		return &writeError{err}
	}
	t.done += int64(len(p))
	t.best = max(t.best, t.done)
	t.r.Progress(t.done, max(t.total, 0))
	return nil
}
