package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// What ends a conversation with a peer.
var (
	errStalled = errors.New("nothing came for too long")
	errSlow    = errors.New("it came too slowly to be of use")
	errLate    = errors.New("it has had nothing new for too long")
	errGone    = errors.New("it does not have the frame any more")
	errLeaving = errors.New("it is about to end its deploy")
	errBusy    = errors.New("it serves too many others")
	errRefused = errors.New("it does not let this machine read")
	errLonger  = errors.New("it sent more than was asked for")
)

// failureOf gives an error of a leg its word.
func failureOf(err error) Failure {
	for _, known := range []struct {
		err error
		how Failure
	}{
		{errStalled, FailureStalled}, {errSlow, FailureStalled}, {errLate, FailureLate}, {errGone, FailureGone},
		{errLeaving, FailureLeaving}, {errBusy, FailureBusy}, {errRefused, FailureRefused},
		{errIdentity, FailureIdentity}, {errRecord, FailureGarbage}, {errLonger, FailureGarbage},
	} {
		if errors.Is(err, known.err) {
			return known.how
		}
	}
	return FailureUnreachable
}

const (
	// slowest is the share of the best rate below which a peer is of no use, and
	// leastRate the same where no rate is known yet, in bytes a second. Between
	// that and the full rate it is the controller that decides.
	slowest   = 32
	leastRate = 64 << 10
	maxURLs   = 8
	// maxPatience is how many times its patience a frame may be waited for, even
	// if the peer says that it comes forward. One that is honest ends such a wait
	// by itself; see waitLimit.
	maxPatience = 6
)

// client asks one peer.
type client struct {
	peer      Peer
	transport *http.Transport
	stall     time.Duration
	patience  time.Duration

	mu      sync.Mutex    // guards the fields below
	credit  time.Duration // how much longer may be waited; earned by what comes
	waiting int           // legs that wait
	seen    uint64        // position that the peer told last
}

func (n *Node) newClient(p Peer) (*client, error) {
	if !validID(p.MachineID) || p.MachineID == n.opts.MachineID || len(p.URLs) == 0 || len(p.URLs) > maxURLs {
		return nil, fmt.Errorf("peer %.140q with %d addresses is none to read from", p.MachineID, len(p.URLs))
	}
	want := "http"
	if n.opts.TLS != nil {
		want = "https"
	}
	for _, raw := range p.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != want || u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
			return nil, fmt.Errorf("address %.100q of a peer is not of the form %s://host:port", raw, want)
		}
	}
	t := &http.Transport{
		DialContext: n.opts.Dial, TLSHandshakeTimeout: 5 * n.opts.Stall, DisableCompression: true,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second, MaxResponseHeaderBytes: 4 << 10, ReadBufferSize: 64 << 10,
	}
	if n.opts.TLS != nil {
		t.TLSClientConfig = n.opts.TLS.client(p.MachineID, n.opts.Now)
	}
	// A little luck in it, so that a chain that stands still does not fall upon
	// the floor in one moment.
	patience := n.opts.Patience + rand.N(n.opts.Patience/2+1)
	return &client{peer: p, transport: t, stall: n.opts.Stall, patience: patience, credit: patience}, nil
}

// wait does what waits for the peer, and takes the time off the credit; of
// those who wait together each takes its share. good is false when there is no
// credit left.
func (c *client) wait(do func()) (took time.Duration, good bool) {
	c.mu.Lock()
	c.waiting++
	c.mu.Unlock()
	start := time.Now()
	do()
	took = time.Since(start)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit -= took / time.Duration(c.waiting)
	c.waiting--
	return took, c.credit > 0
}

// earn gives time back for bytes that came, or by which the peer came forward.
func (c *client) earn(bytes int64, least float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit = min(c.patience, c.credit+time.Duration(float64(bytes)/least*float64(time.Second)))
}

// advanced notes the peer's position and gives by how much it rose.
func (c *client) advanced(position uint64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if position <= c.seen {
		return 0
	}
	by := position - c.seen
	c.seen = position
	return int64(min(by, 1<<40))
}

// open asks for frames, at the first address that answers.
func (l *peerLeg) open(first, last int) (err error) {
	for _, base := range l.up.peer.URLs {
		if err = l.ask(base, first, last); err == nil || context.Cause(l.ctx) != nil || failureOf(err) != FailureUnreachable {
			return err
		}
	}
	return err
}

func (l *peerLeg) ask(base string, first, last int) error {
	target, err := url.JoinPath(base, pathOf(l.n.digest.Hex()))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(l.ctx, http.MethodGet, target+"?"+queryOf(first, last), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", l.n.authorization(l.up.peer.MachineID))
	l.timer.Reset(2 * l.up.client.stall)
	resp, err := l.up.client.transport.RoundTrip(req)
	l.timer.Stop()
	if err != nil {
		if cause := context.Cause(l.ctx); cause != nil {
			return cause
		}
		return err
	}
	if resp.StatusCode == http.StatusOK {
		l.body = resp.Body
		return nil
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusForbidden:
		return errRefused
	case http.StatusTooManyRequests:
		return errBusy
	}
	return fmt.Errorf("%w: status %d", errRecord, resp.StatusCode)
}

// because prefers our own reason for ending a request to the error it made.
func (l *peerLeg) because(err error) error {
	if cause := context.Cause(l.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errGone // an answer that was ended in order: see sender.frame
	}
	return err
}
