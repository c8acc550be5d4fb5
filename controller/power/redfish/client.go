package redfish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

// Limits on what a BMC may send or take.
const (
	maxAnswer   = 8 << 20
	maxHeader   = 256 << 10
	maxPath     = 2048
	maxHops     = 3
	callTimeout = 30 * time.Second // where the caller's ctx has no deadline
	closing     = 5 * time.Second  // for the good-bye
)

// errPin is a certificate other than the pinned one.
type errPin struct{ want, got string }

func (e *errPin) Error() string { return "certificate " + e.got + ", pinned is " + e.want }

// errElsewhere is a redirect that must not be followed.
type errElsewhere struct{ to string }

func (e *errElsewhere) Error() string { return "redirect to " + e.to }

// client speaks HTTP to one BMC: pinned, bounded, and never to another host.
type client struct {
	target power.Target
	base   *url.URL
	http   *http.Client

	mu  sync.Mutex
	pin string // the certificate to insist on; the first one seen, if none was given

	session session // used by the holder of the driver's turn only
}

func newClient(t power.Target, base *url.URL) *client {
	c := &client{target: t, base: base, pin: t.Pin}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // a BMC is never behind one, and credentials must not go there
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			TLSClientConfig:        c.tls(),
			MaxConnsPerHost:        2,
			MaxIdleConns:           1,
			IdleConnTimeout:        20 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true, // no answer that is larger than it looks
		},
		CheckRedirect: c.redirect,
	}
	return c
}

// tls trusts by fingerprint only: BMC certificates are self-signed, expired
// and for other names. Old ones know nothing but RSA key exchange.
func (c *client) tls() *tls.Config {
	var suites []uint16
	for _, s := range tls.CipherSuites() {
		suites = append(suites, s.ID)
	}
	suites = append(suites, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA)
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites,
		InsecureSkipVerify: true, // VerifyConnection compares the fingerprint instead
		VerifyConnection: func(s tls.ConnectionState) error {
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			return c.checkPin(hex.EncodeToString(sum[:]))
		},
	}
}

func (c *client) checkPin(got string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pin == "" {
		c.pin = got
	}
	if c.pin != got {
		return &errPin{want: c.pin, got: got}
	}
	return nil
}

// fingerprint is the certificate in use, empty without TLS.
func (c *client) fingerprint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Scheme != "https" {
		return ""
	}
	return c.pin
}

// redirect follows within the same service only, and only for reading, so that
// neither password nor session leaves it.
func (c *client) redirect(req *http.Request, via []*http.Request) error {
	same := req.URL.Scheme == c.base.Scheme && req.URL.Host == c.base.Host
	if !same || via[0].Method != http.MethodGet || len(via) > maxHops {
		return &errElsewhere{to: req.URL.Redacted()}
	}
	return nil
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// etag is the entity tag of the answer, from its header or its document.
func (a *answer) etag() string {
	if t := a.header.Get("ETag"); t != "" {
		return t
	}
	var doc struct {
		ETag string `json:"@odata.etag"`
	}
	_ = json.Unmarshal(a.body, &doc) // a document without one has none
	return doc.ETag
}

// resolve makes a link of the BMC a URL of this same service.
func (c *client) resolve(link string) (string, error) {
	if !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") || len(link) > maxPath {
		return "", fmt.Errorf("link %q does not lead into this service", power.Clean(link))
	}
	link, _, _ = strings.Cut(link, "#")
	u, err := url.Parse(link)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return "", fmt.Errorf("link %q does not lead into this service", power.Clean(link))
	}
	return c.base.String() + link, nil
}

// send does one request without any authentication logic but the headers
// given, and reads the whole answer within the limits.
func (c *client) send(ctx context.Context, asked, method, path string, header http.Header, payload any) (*answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	to, err := c.resolve(path)
	if err != nil {
		return nil, c.fail(power.ErrProtocol, asked, err.Error(), "report this BMC's model and firmware", nil)
	}
	var body io.Reader
	if payload != nil {
		raw, err := json.Marshal(payload)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", asked, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, c.fail(power.ErrProtocol, asked, err.Error(), "", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(ctx, asked, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, c.transportError(ctx, asked, err)
	}
	if len(raw) > maxAnswer {
		return nil, c.fail(power.ErrProtocol, asked, fmt.Sprintf("an answer of more than %d MiB to %s %s", maxAnswer>>20, method, power.Clean(path)),
			"this is no Redfish service, or a broken one: check the address", nil)
	}
	return &answer{status: res.StatusCode, header: res.Header, body: raw}, nil
}

// transportError names what kept a request from being answered.
func (c *client) transportError(ctx context.Context, asked string, err error) error {
	var pin *errPin
	var elsewhere *errElsewhere
	var dial *net.OpError
	switch {
	case errors.As(err, &pin):
		return c.fail(power.ErrCertificateChanged, asked, pin.Error(),
			"find out why it changed; if that is right, pin the new one with: ingot bmc set", err)
	case errors.As(err, &elsewhere):
		return c.fail(power.ErrProtocol, asked, power.Clean(elsewhere.Error()), "credentials were not sent there; check the address", err)
	case errors.As(err, &dial) && dial.Op == "dial":
		return c.fail(power.ErrUnreachable, asked, power.Clean(dial.Error()), "check address, cabling and that the BMC's web service is on", err)
	case ctx.Err() != nil || isTimeout(err):
		return c.fail(power.ErrTimeout, asked, "no complete answer in time", "try again; if it stays so, reset the BMC", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &dial):
		return c.fail(power.ErrTimeout, asked, "the connection broke: "+power.Clean(err.Error()), "try again", err)
	}
	return c.fail(power.ErrProtocol, asked, power.Clean(err.Error(), c.target.Password), "check the address and that it is a Redfish service", err)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// fail makes an error of this BMC. The text of cause is not shown.
func (c *client) fail(kind power.Kind, asked, got, do string, cause error) error {
	return &power.Error{Kind: kind, BMC: c.target.Address(), Asked: asked, Got: got, Do: do, Err: cause}
}
