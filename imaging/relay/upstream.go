package relay

import (
	"errors"
	"net"
	"slices"
	"time"
)

// Peer is another machine's relay.
type Peer struct {
	MachineID string
	// URLs where it serves, such as http://10.0.0.5:40123, tried in turn; https
	// if and only if the relay is over TLS.
	URLs []string
}

// URL is where peers reach a node that serves at the address.
func (n *Node) URL(at net.Addr) string {
	if n.opts.TLS != nil {
		return "https://" + at.String()
	}
	return "http://" + at.String()
}

// Failure is how a peer failed, in one word.
type Failure string

// The ways in which a peer fails. After all but FailureGone it is left, until
// SetUpstream names it again; after FailureGarbage it never is asked again.
const (
	FailureUnreachable Failure = "unreachable" // no connection, or none any more
	FailureStalled     Failure = "stalled"     // silent, or too slow to be of use
	FailureLate        Failure = "late"        // alive, and has had nothing for long
	FailureGone        Failure = "gone"        // has moved past what is needed here
	FailureLeaving     Failure = "leaving"     // its deploy is at its end
	FailureBusy        Failure = "busy"        // serves too many others
	FailureRefused     Failure = "refused"     // does not let us read
	FailureIdentity    Failure = "identity"    // shows another machine's certificate
	FailureGarbage     Failure = "garbage"     // sent what nobody may send
)

// State is a snapshot for the controller.
type State struct {
	RingBytes uint64
	// Position is the offset in the packed file before which every frame that
	// this machine needs is there and verified.
	Position uint64
	// BytesPerSecond is what arrived during the last one to two seconds.
	BytesPerSecond uint64
	// Waiting: the writer could take more, the source has more (a peer has said
	// so; the floor always has), and it comes at less than half of the best rate
	// seen in this deploy.
	Waiting bool
	// Upstream is the peer that is read from; empty: the floor.
	Upstream string
	// FailedUpstream and Failure tell of a peer that failed since State was
	// last called.
	FailedUpstream string
	Failure        Failure
	// Done: no more frames are needed.
	Done bool
	// Packed bytes taken from the floor, taken from peers, given to peers.
	FromFloor, FromPeers, ToPeers uint64
	// Serving is how many requests are being answered, and LastServed when the
	// last one ended (zero: none has).
	Serving    int
	LastServed time.Time
}

// upstream is a peer while it is in force.
type upstream struct {
	peer   Peer
	client *client
	gone   bool // FailureGone was told already
}

// SetUpstream names the peer to read from, from now on; the zero Peer means the
// floor. It may be called at any moment. The frame that is arriving is read to
// its end from where it comes. Naming the peer in force changes nothing;
// naming one that failed tries it again, unless it sent garbage.
func (n *Node) SetUpstream(p Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.progress.done {
		return
	}
	switch {
	case p.MachineID == "":
		n.change(nil)
		return
	case n.banned[p.MachineID]:
		n.change(nil)
		n.blame(p.MachineID, FailureGarbage)
		return
	case n.up != nil && n.up.peer.MachineID == p.MachineID && slices.Equal(n.up.peer.URLs, p.URLs):
		return
	}
	c, err := n.newClient(p)
	if err != nil {
		n.opts.Log.Warn("upstream cannot be used", "peer", p.MachineID, "err", err)
		n.change(nil)
		n.blame(p.MachineID, FailureUnreachable)
		return
	}
	n.opts.Log.Info("upstream of the relay", "peer", p.MachineID, "urls", p.URLs)
	n.change(&upstream{peer: p, client: c})
}

// errTurned ends the wait for a peer that is not the upstream any more.
var errTurned = errors.New("another upstream is in force")

// change puts another upstream in force, and wakes who waits for the old one.
// n.mu is held.
func (n *Node) change(to *upstream) {
	if n.up != nil {
		n.up.client.transport.CloseIdleConnections()
	}
	n.up, n.ahead = to, 0
	n.turn++
	for r := range n.progress.open {
		if r.leg != nil && r.leg.idle {
			r.leg.cancel(errTurned)
		}
	}
}

// leave goes to the floor if the peer is the upstream, and tells how it failed.
// n.mu is held.
func (n *Node) leave(id string, how Failure) {
	if n.up != nil && n.up.peer.MachineID == id {
		n.change(nil)
	}
	n.blame(id, how)
}

// blame has State tell of a failure. n.mu is held.
func (n *Node) blame(id string, how Failure) {
	n.failed, n.failure = id, how
	n.news()
}

// lost takes the error of a leg. A peer that is not the upstream any more is
// not blamed for what befell an old request.
func (n *Node) lost(l *peerLeg, how Failure, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case how == FailureGarbage:
		n.banned[l.up.peer.MachineID] = true
	case l.turn != n.turn:
		return
	case how == FailureGone && l.up.gone:
		return
	case how == FailureGone:
		l.up.gone = true
		n.blame(l.up.peer.MachineID, how)
		return
	}
	n.opts.Log.Warn("upstream failed, going on without it", "peer", l.up.peer.MachineID, "failure", string(how), "err", err)
	n.leave(l.up.peer.MachineID, how)
}

// current gives the upstream in force, nil for the floor.
func (n *Node) current() (*upstream, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up, n.turn
}

// Changed gives a token when State has something that should be told at once.
func (n *Node) Changed() <-chan struct{} { return n.changed }

func (n *Node) news() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// State tells how things stand. It is meant for one reporter: a failure is told
// once.
func (n *Node) State() State {
	received, best, hungry := n.meter.read()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := State{
		RingBytes: uint64(n.opts.RingBytes), Position: n.progress.position(), BytesPerSecond: uint64(received), Done: n.progress.done,
		FailedUpstream: n.failed, Failure: n.failure,
		FromFloor: n.fromFloor.Load(), FromPeers: n.fromPeers.Load(), ToPeers: n.toPeers.Load(),
	}
	n.failed, n.failure = "", ""
	more := true
	if n.up != nil {
		s.Upstream = n.up.peer.MachineID
		more = n.ahead > s.Position+2*uint64(n.m.FrameSizeBytes)
	}
	s.Waiting = !n.progress.done && hungry && more && received < best/2
	s.Serving, s.LastServed = n.serves.state()
	return s
}
