package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// manifestTime bounds one attempt to fetch a manifest of up to 64 MiB.
const manifestTime = 2 * time.Minute

// Manifest fetches the manifest that the digest names, from the first URL that
// delivers it, and tries again after temporary errors as Retry does. The bytes
// are checked against the digest before they are parsed.
func Manifest(ctx context.Context, urls []string, want manifest.Digest, opts Options) (*manifest.Manifest, error) {
	if len(urls) == 0 {
		return nil, errors.New("fetch manifest: no URL to fetch it from")
	}
	if opts.HTTP.Client == nil {
		opts.HTTP.Client = newClient()
		defer opts.HTTP.Client.CloseIdleConnections()
	}
	retry := NewRetry(nil, opts.Retry)
	b := &retryBody{r: retry, ctx: ctx, wait: retry.opts.FirstWait}
	for {
		var temporary, last error
		for _, u := range urls {
			m, err := manifestFrom(ctx, u, want, opts.HTTP)
			if err == nil {
				return m, nil
			}
			if last = err; !Permanent(err) {
				temporary = err
			}
		}
		if temporary == nil {
			return nil, fmt.Errorf("fetch manifest %s: %w", want, last)
		}
		if err := b.pause(temporary); err != nil {
			return nil, fmt.Errorf("fetch manifest %s: %w", want, err)
		}
	}
}

func manifestFrom(ctx context.Context, rawURL string, want manifest.Digest, opts HTTPOptions) (*manifest.Manifest, error) {
	h, err := NewHTTP(rawURL, opts)
	if err != nil {
		return nil, &Error{Source: withoutQuery(rawURL), Permanent: true, Err: err}
	}
	reqCtx, cancel := context.WithTimeoutCause(ctx, manifestTime, ErrStalled)
	defer cancel()
	fail := func(status int, err error) *Error {
		return &Error{Source: h.name(), Status: status, Permanent: permanentStatus(status), Err: err}
	}
	req, err := http.NewRequestWithContext(reqCtx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, fail(0, err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, settle(ctx, fail(0, cause(ctx, reqCtx, err)))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fail(resp.StatusCode, fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxBytes+1))
	if err != nil {
		return nil, settle(ctx, fail(0, cause(ctx, reqCtx, err)))
	}
	m, err := manifest.ParseVerified(data, want)
	if err != nil {
		return nil, &Error{Source: h.name(), Permanent: true, Err: err}
	}
	return m, nil
}
