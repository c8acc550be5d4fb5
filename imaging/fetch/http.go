package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTPOptions for NewHTTP; the zero value is usable.
type HTTPOptions struct {
	// Client to use; nil makes one of its own without a proxy.
	Client *http.Client
	// HeaderTimeout bounds the wait for an answer to begin (default 20 s),
	// StallTimeout the wait for the next byte (default 30 s).
	HeaderTimeout time.Duration
	StallTimeout  time.Duration
	// Renew gives a fresh URL for the same file when a signed one is refused
	// (401 or 403); it is called at most once for each Range. nil: none.
	Renew func(ctx context.Context) (string, error)
}

// HTTP reads ranges from one URL (RFC 9110, section 14). The first answer's
// strong entity tag is remembered and demanded (If-Match) from then on.
type HTTP struct {
	opts   HTTPOptions
	client *http.Client

	mu   sync.Mutex // guards the fields below
	url  string
	etag string
}

// NewHTTP checks the URL (http or https) and makes no request.
func NewHTTP(rawURL string, opts HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("open image: %.100q is no http or https URL", withoutQuery(rawURL))
	}
	if opts.HeaderTimeout <= 0 {
		opts.HeaderTimeout = 20 * time.Second
	}
	if opts.StallTimeout <= 0 {
		opts.StallTimeout = 30 * time.Second
	}
	if opts.Client == nil {
		opts.Client = newClient()
	}
	return &HTTP{opts: opts, client: opts.Client, url: rawURL}, nil
}

// newClient has no limit of connections to a host: a frame that is fetched anew
// must not wait for ranges that wait for that very frame. Who reads decides how
// many there are.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		DisableCompression: true, TLSHandshakeTimeout: 10 * time.Second, ReadBufferSize: 64 << 10,
	}}
}

// Range is Source's.
func (h *HTTP) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length <= 0 {
		return nil, &Error{Source: h.name(), Offset: offset, Length: length, Permanent: true, Err: errors.New("empty range")}
	}
	body, err := h.try(ctx, offset, length)
	var e *Error
	if h.opts.Renew == nil || !errors.As(err, &e) || (e.Status != http.StatusForbidden && e.Status != http.StatusUnauthorized) {
		return body, err
	}
	fresh, renewErr := h.opts.Renew(ctx)
	if renewErr != nil {
		e.Err = fmt.Errorf("%w, and no fresh URL could be had: %w", e.Err, renewErr)
		return nil, e
	}
	h.mu.Lock()
	h.url = fresh
	h.mu.Unlock()
	return h.try(ctx, offset, length)
}

func (h *HTTP) try(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	h.mu.Lock()
	target, etag := h.url, h.etag
	h.mu.Unlock()
	fail := func(err error) *Error {
		return &Error{Source: withoutQuery(target), Offset: offset, Length: length, Err: err}
	}
	reqCtx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(reqCtx, http.MethodGet, target, nil)
	if err != nil {
		cancel(nil)
		return nil, fail(err)
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	req.Header.Set("Accept-Encoding", "identity")
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	timer := time.AfterFunc(h.opts.HeaderTimeout, func() { cancel(ErrStalled) })
	resp, err := h.client.Do(req)
	if err != nil {
		timer.Stop()
		e := fail(cause(ctx, reqCtx, err))
		cancel(nil)
		return nil, settle(ctx, e)
	}
	timer.Stop()
	if e := h.check(resp, offset, length, fail); e != nil {
		// A short answer that is read whole leaves a connection that can be used
		// again; one that does not come is not waited for.
		timer.Reset(min(h.opts.HeaderTimeout, time.Second))
		io.CopyN(io.Discard, resp.Body, 4<<10)
		timer.Stop()
		resp.Body.Close()
		cancel(nil)
		return nil, e
	}
	return &httpBody{
		ctx: ctx, reqCtx: reqCtx, cancel: cancel, body: resp.Body,
		timer: timer, stall: h.opts.StallTimeout, left: length, fail: fail,
	}, nil
}

// check decides by status and headers whether the body is the range asked for.
func (h *HTTP) check(resp *http.Response, offset, length int64, fail func(error) *Error) error {
	e := fail(nil)
	e.Status = resp.StatusCode
	switch resp.StatusCode {
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/", offset, offset+length-1)
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, want) {
			e.Permanent, e.Err = true, fmt.Errorf("%w: it sent the range %.60q, want %s", ErrShort, got, want)
			return e
		}
	case http.StatusOK:
		if offset != 0 || resp.ContentLength != length {
			e.Permanent, e.Err = true, ErrNoRanges
			return e
		}
	case http.StatusPreconditionFailed:
		e.Permanent, e.Err = true, ErrChanged
		return e
	default:
		e.Err = fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
		e.Permanent = permanentStatus(resp.StatusCode)
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
		return e
	}
	if !h.sameTag(resp.Header.Get("ETag")) {
		e.Permanent, e.Err = true, ErrChanged
		return e
	}
	return nil
}

// sameTag remembers the first strong entity tag; weak ones say nothing about bytes.
func (h *HTTP) sameTag(tag string) bool {
	if tag == "" || strings.HasPrefix(tag, "W/") {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.etag == "" {
		h.etag = tag
	}
	return h.etag == tag
}

func (h *HTTP) name() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return withoutQuery(h.url)
}

// permanentStatus: everything that the client did wrong, except for what waits
// or other circumstances can mend.
func permanentStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusTooEarly, http.StatusMisdirectedRequest:
		return false
	}
	return code >= 300 && code < 500
}

func retryAfter(value string) time.Duration {
	seconds, err := strconv.Atoi(value)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 60)) * time.Second
}

// withoutQuery keeps signatures and passwords out of logs.
func withoutQuery(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(unreadable URL)"
	}
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	return u.String()
}

// cause replaces "context canceled" by our own reason for cancelling.
func cause(ctx, reqCtx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(context.Cause(reqCtx), ErrStalled) {
		return ErrStalled
	}
	// A url.Error repeats the whole URL, signature included.
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// settle gives the context's own error when that is why the request ended, and
// marks certificates that do not verify as permanent.
func settle(ctx context.Context, e *Error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var cert *tls.CertificateVerificationError
	if errors.As(e.Err, &cert) {
		e.Permanent = true
	}
	return e
}
