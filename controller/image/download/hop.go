package download

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Limits of one connection.
const (
	connectLimit   = 15 * time.Second
	answerLimit    = 60 * time.Second
	maxHeaderBytes = 64 << 10
	maxRedirects   = 5
)

// way is where an answer came from, and where its next one may come from.
type way struct {
	url   *url.URL
	outer bool // a public address was among the hops: none may be inner any more
}

// get follows redirects by hand, since each is judged by the one before it.
// The caller closes the body.
func (c *Client) get(ctx context.Context, w way, header http.Header) (*http.Response, way, error) {
	for range maxRedirects + 1 {
		resp, err := c.hop(ctx, &w, header)
		if err != nil {
			return nil, w, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, w, nil
		}
		location := resp.Header.Get("Location")
		resp.Body.Close()
		next, err := w.url.Parse(location)
		if err != nil || location == "" {
			return nil, w, fmt.Errorf("%w: it answers %d without a place to go to", ErrAnswer, resp.StatusCode)
		}
		if w.url.Scheme == "https" && next.Scheme == "http" {
			return nil, w, fmt.Errorf("%w: it redirects from https to http", ErrRefused)
		}
		if err := c.policy.judge(next); err != nil {
			return nil, w, fmt.Errorf("redirected: %w", err)
		}
		w.url = next
	}
	return nil, w, fmt.Errorf("%w: more than %d redirects", ErrRefused, maxRedirects)
}

// hop makes one request on a connection of its own.
func (c *Client) hop(ctx context.Context, w *way, header http.Header) (*http.Response, error) {
	var peer net.Addr
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { peer = info.Conn.RemoteAddr() },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be asked for", ErrRefused)
	}
	req.Header = header.Clone()
	transport := c.transport(w.outer)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if c.policy.Proxy == nil {
		z, err := c.zoneOfPeer(peer)
		if err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
		w.outer = w.outer || z == public
	}
	return resp, nil
}

func (c *Client) zoneOfPeer(peer net.Addr) (zone, error) {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return inner, fmt.Errorf("%w: it is not reached by TCP", ErrRefused)
	}
	return c.policy.zoneOf(tcp.AddrPort().Addr())
}

// transport judges each address when it is dialled, whatever name it had.
func (c *Client) transport(outer bool) *http.Transport {
	dialer := &net.Dialer{Timeout: connectLimit, Resolver: c.resolver}
	var proxy func(*http.Request) (*url.URL, error)
	if c.policy.Proxy != nil {
		proxy = http.ProxyURL(c.policy.Proxy)
	} else {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return c.dialable(address, outer) }
	}
	return &http.Transport{
		Proxy: proxy, DialContext: dialer.DialContext,
		TLSClientConfig:   &tls.Config{RootCAs: c.policy.RootCAs, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, DisableCompression: true, // the bytes as they are
		TLSHandshakeTimeout: connectLimit, ResponseHeaderTimeout: answerLimit, MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

func (c *Client) dialable(address string, outer bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %s", ErrRefused, address)
	}
	z, err := c.policy.zoneOf(ap.Addr())
	if err == nil && outer && z == inner {
		err = fmt.Errorf("%w: it leads from a public address to the inner address %s", ErrRefused, ap.Addr())
	}
	return err
}

// permanent tells the errors of a hop that another try will not mend.
func permanent(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, ErrAnswer), errors.Is(err, ErrChanged), errors.Is(err, ErrTooLarge):
		return true
	case errors.As(err, &dns):
		return dns.IsNotFound
	}
	return errors.As(err, &cert) || errors.As(err, &record)
}

// errIdle is a connection that was given up.
var errIdle = errors.New("nothing came for too long")

// idleBody gives up when nothing comes for a while.
type idleBody struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func newIdleBody(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *idleBody {
	return &idleBody{body, time.AfterFunc(limit, func() { cancel(errIdle) }), limit}
}

func (b *idleBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.timer.Reset(b.limit)
	return n, err
}

func (b *idleBody) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}
