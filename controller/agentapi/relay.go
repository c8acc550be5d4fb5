package agentapi

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/peer"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/relay"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Relay is how machines pass the frames of images on to each other.
type Relay struct {
	// Board plans it; nil: every machine reads from the controller.
	Board *relay.Board
	// RingBytes is the most memory that a machine gives to its peers; it never
	// gives more than a sixteenth of what it has.
	RingBytes uint64
	// ServeBytesPerSecond is the most that a machine gives to its peers; 0: no
	// limit.
	ServeBytesPerSecond uint64
	// TLS for every image, and not only for private ones.
	TLS bool
}

const (
	// leastRing is the smallest ring that is of use.
	leastRing = 8 << 20
	// maxRelayURLs and maxRelayURL bound what an agent says about where it serves.
	maxRelayURLs = 4
	maxRelayURL  = 200
	// maxReturns bounds how many orders of one stream are looked up because
	// their relay is not known here.
	maxReturns = 4
)

// relayEnter gives a deploy its part in the relay of its image, if there is one.
// It is called by the stream's sender.
func (st *stream) relayEnter(m machine.Machine, order *agent.Order) {
	r, job := st.server.Relay, order.GetDeploy()
	if r.Board == nil || job == nil {
		return
	}
	ring := min(r.RingBytes, m.MemoryBytes/16)
	if ring < leastRing {
		return
	}
	secure := r.TLS
	for _, u := range job.GetFrameUrls() {
		secure = secure || strings.HasPrefix(u, "https:") // a private image
	}
	key, ok := r.Board.Enter(st.seat(m, order.GetId(), job.GetImageDigest()))
	if !ok {
		return
	}
	st.seated.Store(order.GetId())
	job.Relay = &agent.Relay{Key: key, Tls: secure, RingBytes: ring, ServeBytesPerSecond: r.ServeBytesPerSecond}
}

func (st *stream) seat(m machine.Machine, order int64, digest string) relay.Seat {
	return relay.Seat{
		Machine: m.ID, Order: order, Image: digest, Place: st.place(m),
		Deliver: func(u relay.Upstream) { st.redirect(order, u) },
	}
}

// place is where a machine is, as far as it is known: the switch at the NIC it
// boots from, and the network of the address by which we see it.
func (st *stream) place(m machine.Machine) relay.Place {
	var p relay.Place
	for _, nic := range m.NICs {
		if nic.BootNIC {
			p.Rack, _, _ = strings.Cut(nic.Neighbour, " ")
			p.LinkBytesPerSecond = nic.SpeedBitsPerSecond / 8
		}
	}
	if remote := st.agent.remote; remote.IsValid() {
		bits := 24
		if remote.Is6() {
			bits = 64
		}
		if prefix, err := remote.Prefix(bits); err == nil {
			p.Subnet = prefix.String()
		}
	}
	return p
}

// redirect leaves word for the sender; the latest word counts.
func (st *stream) redirect(order int64, u relay.Upstream) {
	m := &agent.RelayUpstream{OrderId: order, MachineId: string(u.Peer), Urls: u.URLs}
	for {
		select {
		case st.upstream <- m:
			return
		default:
		}
		select {
		case <-st.upstream:
		default:
		}
	}
}

// relayState hands an agent's word to the board. It is called by the stream's
// receiver.
func (st *stream) relayState(ctx context.Context, s *agent.RelayState) error {
	board := st.server.Relay.Board
	if board == nil {
		return nil
	}
	said := relay.State{
		URLs: st.relayURLs(s.GetUrls()), RingBytes: min(s.GetRingBytes(), st.server.Relay.RingBytes), Position: s.GetPosition(), BytesPerSecond: s.GetBytesPerSecond(),
		ReceivedBytes: s.GetFromControllerBytes() + s.GetFromPeersBytes(), Waiting: s.GetWaiting(), Upstream: machine.ID(text(s.GetUpstream())),
		Failed: machine.ID(text(s.GetFailedUpstream())), Failure: text(s.GetFailure()), Done: s.GetDone(),
	}
	if said.Failed != "" && st.pace.line() {
		st.log.Info("peer failed in a relay", "order_id", s.GetOrderId(), "peer", said.Failed, "failure", said.Failure)
	}
	// A seat that an older stream of this machine took would be told of there.
	if st.seated.Load() == s.GetOrderId() && board.Report(st.agent.id, s.GetOrderId(), said) {
		return nil
	}
	return st.relayReturn(ctx, s.GetOrderId())
}

// relayReturn gives a seat to a machine that came back to this controller, or that
// another process sent to its work. Its next state counts.
func (st *stream) relayReturn(ctx context.Context, order int64) error {
	if len(st.returned) >= maxReturns || st.returned[order] {
		return nil
	}
	o, err := st.server.Store.OrderGet(ctx, order)
	if err == nil && (o.MachineID != st.agent.id || o.Job.Deploy == nil || o.State != machine.OrderDelivered) {
		err = fault.New(fault.NotFound, "no deploy under way")
	}
	var m machine.Machine
	if err == nil {
		m, err = st.server.Store.MachineGet(ctx, string(st.agent.id))
	}
	if fault.Is(err, fault.Unavailable) {
		return nil // at the next state
	}
	st.returned[order] = true
	if err != nil {
		st.log.Info("word of a relay is passed over", "order_id", order, "err", err)
		return nil
	}
	if st.server.Relay.Board.Return(st.seat(m, order, o.Job.Deploy.ImageDigest)) {
		st.seated.Store(order)
	}
	return nil
}

// relayLeave ends a machine's part in a relay, with its order.
func (st *stream) relayLeave(order int64) {
	if board := st.server.Relay.Board; board != nil {
		board.Leave(st.agent.id, order)
	}
}

// relayAway says that the machine's stream ended, and that no newer one is there.
func (st *stream) relayAway() {
	if board := st.server.Relay.Board; board != nil {
		board.Away(st.agent.id)
	}
}

// relayURLs keeps of what an agent says those URLs that lead to itself, as seen
// from here: nobody may send others elsewhere.
func (st *stream) relayURLs(said []string) []string {
	var kept []string
	for _, s := range said[:min(len(said), maxRelayURLs)] {
		if len(s) > maxRelayURL {
			continue
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			continue
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		host, hostErr := netip.ParseAddr(u.Hostname())
		if err != nil || port < 1024 || hostErr != nil || host.Unmap() != st.agent.remote {
			continue
		}
		kept = append(kept, u.Scheme+"://"+netip.AddrPortFrom(host.Unmap(), uint16(port)).String())
	}
	return kept
}

// remoteOf is the address by which the agent is seen; invalid if there is none.
func remoteOf(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
