package deploy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/relay"
	"github.com/ingot-metal/ingot/imaging/writer"
	"github.com/ingot-metal/ingot/proto/agent"
)

const (
	// relayRun is the most that the writer asks a relay for at once. Small, so
	// that all machines of a chain are at nearly the same place.
	relayRun = 2 << 20
	// relayTells is how often the controller hears how things stand.
	relayTells = 500 * time.Millisecond
	// A machine that has all it needs serves on until nobody has asked for
	// relayIdle, and for relayLinger in any case; but never into the next system.
	relayIdle   = 5 * time.Second
	relayLinger = 30 * time.Second
	// relayFirstWord is how long a machine waits to be told where to read from:
	// many that began with the controller, only to turn away, would be in each
	// other's way there.
	relayFirstWord = 500 * time.Millisecond
	// relayFarewell is how long peers may take to be sent away.
	relayFarewell = 500 * time.Millisecond
)

// Relay is what a deploy needs of the machine to take part in a relay.
type Relay struct {
	MachineID string
	// Listen opens a port at the address that the controller knows the machine
	// by.
	Listen func() (net.Listener, error)
	// Send tells the controller how things stand; Receive has tell called with
	// what it answers, for one order, until stop. See agent/session.
	Send    func(*agent.RelayState)
	Receive func(orderID int64, tell func(*agent.RelayUpstream)) (stop func())
	// Certificate is this boot's, and Authority the CA of all agents'.
	Certificate func() *tls.Certificate
	Authority   func() *x509.CertPool
	// RingBytes is the most memory that may be given to frames for peers.
	RingBytes int64
}

// relayed is this deploy's part in a relay. Whatever goes wrong in it costs
// time, and never the deploy.
type relayed struct {
	door *Relay
	node *relay.Node
	log  *slog.Logger

	order   int64
	url     string // where peers reach it; empty: it does not serve
	stop    context.CancelFunc
	deaf    func() // stops listening to the controller
	running sync.WaitGroup
	word    chan struct{} // closed when the controller has told the first upstream
	wrote   chan struct{} // closed when the write phase has ended
}

// joinRelay makes the node, which serves nobody yet.
func (d *deploy) joinRelay(run *job.Run) {
	asked, door := d.order.Relay, d.machine.Relay
	if asked == nil || door == nil {
		return
	}
	options := relay.Options{MachineID: door.MachineID, Key: asked.Key, Log: run.Log,
		RingBytes: relay.DefaultRingBytes, ServeRate: float64(asked.ServeBytesPerSecond)}
	if asked.RingBytes > 0 && asked.RingBytes < 1<<40 {
		options.RingBytes = int64(asked.RingBytes)
	}
	if door.RingBytes > 0 {
		options.RingBytes = min(options.RingBytes, door.RingBytes)
	}
	// What comes over TLS is private, whatever else the order says.
	private := slices.ContainsFunc(d.order.FrameUrls, func(u string) bool { return strings.HasPrefix(strings.ToLower(u), "https:") })
	if asked.Tls || private {
		options.TLS = &relay.TLS{Certificate: door.Certificate, Roots: door.Authority()}
	}
	node, err := relay.NewNode(d.manifest, d.digest, d.source, options)
	if err != nil {
		run.Log.Warn("deploy goes on without the relay", "err", err)
		return
	}
	d.relay = &relayed{door: door, node: node, order: run.OrderID, log: run.Log, word: make(chan struct{}), wrote: make(chan struct{})}
}

// throughRelay has the writer read by the relay and give it what it verified,
// and begins to serve.
func (d *deploy) throughRelay(options writer.Options) (writer.Source, writer.Options) {
	r := d.relay
	if r == nil {
		return d.source, options
	}
	r.open()
	select {
	case <-r.word:
	case <-time.After(relayFirstWord):
	}
	options.RunBytes = relayRun
	options.OnFrame = r.node.Put
	tell := options.Progress
	options.Progress = func(p writer.Progress) {
		if p.Phase == writer.PhaseVerify || p.Phase == writer.PhaseDone {
			r.node.Finish()
		}
		tell(p)
	}
	return r.node, options
}

func (r *relayed) open() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var first sync.Once
	r.deaf = r.door.Receive(r.order, func(u *agent.RelayUpstream) {
		r.node.SetUpstream(relay.Peer{MachineID: u.MachineId, URLs: u.Urls})
		first.Do(func() { close(r.word) })
	})
	if l, err := r.door.Listen(); err != nil {
		r.log.Warn("frames are not passed on to peers", "err", err)
	} else {
		r.url = r.node.URL(l.Addr())
		r.running.Go(func() {
			if err := r.node.Serve(l); err != nil {
				r.log.Warn("frames are not passed on to peers any more", "err", err)
			}
		})
	}
	r.running.Go(func() { r.report(ctx) })
}

// report tells the controller how things stand, until ctx ends or nobody needs
// this machine any more. Then the node is closed.
func (r *relayed) report(ctx context.Context) {
	ticker := time.NewTicker(relayTells)
	defer ticker.Stop()
	for over := (<-chan time.Time)(nil); ; {
		idle := r.send(r.url)
		if over != nil && idle {
			break
		}
		if over == nil && r.hasWritten() {
			over = time.After(relayLinger)
		}
		select {
		case <-ticker.C:
			continue
		case <-r.node.Changed():
			continue
		case <-over:
		case <-ctx.Done():
		}
		break
	}
	r.deaf()
	farewell, cancel := context.WithTimeout(context.Background(), relayFarewell)
	defer cancel()
	if err := r.node.Close(farewell); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.log.Warn("relay was not closed in order", "err", err)
	}
	r.send("")
}

func (r *relayed) hasWritten() bool {
	select {
	case <-r.wrote:
		return true
	default:
		return false
	}
}

// send tells how things stand, and whether nobody has asked for a while.
func (r *relayed) send(url string) (idle bool) {
	s := r.node.State()
	m := &agent.RelayState{OrderId: r.order, RingBytes: s.RingBytes, Position: s.Position, BytesPerSecond: s.BytesPerSecond,
		Waiting: s.Waiting, Upstream: s.Upstream, FailedUpstream: s.FailedUpstream, Failure: string(s.Failure), Done: s.Done,
		FromControllerBytes: s.FromFloor, FromPeersBytes: s.FromPeers, ToPeersBytes: s.ToPeers}
	if url != "" {
		m.Urls = []string{url}
	}
	r.door.Send(m)
	return s.Serving == 0 && time.Since(s.LastServed) > relayIdle
}

// wroteThrough copies what the relay did into the result; peers are served on
// for a while.
func (d *deploy) wroteThrough() {
	if d.relay == nil {
		return
	}
	d.relay.node.Finish()
	d.result.BytesFromPeers = d.relay.node.State().FromPeers
	close(d.relay.wrote)
}

// leaveRelay ends the machine's part and gives the memory back. It may be called
// again.
func (d *deploy) leaveRelay() {
	r := d.relay
	if r == nil {
		return
	}
	d.relay = nil
	if r.stop == nil { // it never was opened
		if err := r.node.Close(context.Background()); err != nil {
			r.log.Warn("relay was not closed in order", "err", err)
		}
		return
	}
	r.stop()
	r.running.Wait()
}

// ListenBeside opens a port at this machine's own address towards another one
// (host:port). Nothing is sent there.
func ListenBeside(other string) (net.Listener, error) {
	c, err := net.Dial("udp", other)
	if err != nil {
		return nil, fmt.Errorf("own address towards %s: %w", other, err)
	}
	own := c.LocalAddr().(*net.UDPAddr)
	_ = c.Close() // nothing was sent
	l, err := net.Listen("tcp", net.JoinHostPort(own.IP.String(), "0"))
	if err != nil {
		return nil, fmt.Errorf("listen at %v: %w", own.IP, err)
	}
	return l, nil
}
