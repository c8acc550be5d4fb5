// Package dhcp is a DHCPv4 server (RFC 2131) whose leases live in the store: an
// address is committed there before it is acknowledged, and nothing is
// remembered here but what was acknowledged, for the time that the store is away.
//
// One Server serves one interface. It first looks for another DHCP server on
// the segment and stays silent while there is one.
//
//	DISCOVER -> LeaseOffer  -> OFFER
//	REQUEST  -> LeaseCommit -> ACK, or NAK when the address is not to be had
//	INFORM   -> SubnetFind  -> ACK without an address
//	RELEASE, DECLINE -> LeaseRelease, LeaseDecline, no answer
//
// What a client boots is boot.Decide's business; see there for the table.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/ingot-metal/ingot/controller/boot"
)

const (
	// defaultBootLease covers a loader and its retries; the resident agent and
	// installed systems get defaultInstalledLease.
	defaultBootLease      = 10 * time.Minute
	defaultInstalledLease = 12 * time.Hour
	// workers answer packets, queue holds those that wait; more are dropped, for
	// a client asks again and a late answer is of no use.
	workers, queue = 16, 512
	// answerTimeout is how long one packet may occupy a worker.
	answerTimeout = 3 * time.Second
	// maxPacket is the largest datagram looked at.
	maxPacket = 4096
	// defaultProbeWait is how long other servers have to answer our look-out.
	defaultProbeWait = 2 * time.Second
	// defaultProbeEvery is how often it is looked again while another one answers.
	defaultProbeEvery = time.Minute
)

// Config is what a Server needs. Zero values of optional fields are usable.
type Config struct {
	// Interface to serve, for example eth1.
	Interface string
	// Address is ours on that interface with its prefix, for example
	// 10.0.0.1/24. It is the server identifier.
	Address netip.Prefix
	// HTTPPort of boot.Handler on Address; 0 means 80.
	HTTPPort  int
	Leases    boot.Leases
	Directory boot.Directory
	// Observer may be nil.
	Observer boot.Observer
	// BootLease and InstalledLease are lease times by stage; 0 means 10 minutes
	// and 12 hours.
	BootLease, InstalledLease time.Duration
	// SkipProbe serves without looking for another DHCP server first.
	SkipProbe bool
	// Probe overrides how other servers are looked for: it returns one that
	// answered, or the zero Addr. nil means a DISCOVER of our own on Interface.
	Probe func(ctx context.Context) (netip.Addr, error)
	// ProbeEvery is the pause before looking again while another server
	// answers; 0 means one minute.
	ProbeEvery time.Duration
	Log        *slog.Logger
	// Now is the controller's clock; nil means time.Now.
	Now func() time.Time
}

// Server answers DHCP on one interface.
type Server struct {
	c     Config
	base  string
	log   *slog.Logger
	known *memory
	limit *limiter
	conn  net.PacketConn
}

// New makes a server that answers on conn, which must be able to broadcast;
// Run closes it. Listen makes a conn for a real interface.
func New(c Config, conn net.PacketConn) (*Server, error) {
	if !c.Address.IsValid() || !c.Address.Addr().Is4() {
		return nil, fmt.Errorf("serve DHCP on %s: it needs an IPv4 address of ours", c.Interface)
	}
	if c.BootLease == 0 {
		c.BootLease = defaultBootLease
	}
	if c.InstalledLease == 0 {
		c.InstalledLease = defaultInstalledLease
	}
	if c.ProbeEvery == 0 {
		c.ProbeEvery = defaultProbeEvery
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	base := "http://" + c.Address.Addr().String()
	if c.HTTPPort != 0 && c.HTTPPort != 80 {
		base += fmt.Sprintf(":%d", c.HTTPPort)
	}
	log := c.Log.With("interface", c.Interface)
	if c.Probe == nil {
		c.Probe = func(ctx context.Context) (netip.Addr, error) {
			return Probe(ctx, c.Interface, c.Address.Addr(), defaultProbeWait)
		}
	}
	return &Server{c: c, base: base, log: log, known: newMemory(), limit: newLimiter(), conn: conn}, nil
}

// Listen opens the server's socket on an interface: port 67, bound to the
// device, so that servers on several interfaces do not hear each other's clients.
func Listen(ifname string) (net.PacketConn, error) {
	conn, err := server4.NewIPv4UDPConn(ifname, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort})
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", ifname, err)
	}
	return conn, nil
}

// packet is one datagram and where it came from.
type packet struct {
	data []byte
	from net.Addr
}

// Run serves until ctx ends or the socket fails, and closes the socket.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	defer s.conn.Close()

	gate := make(chan struct{}) // closed once we may answer
	wg.Go(func() { s.lookOut(ctx, gate) })
	packets := make(chan packet, queue)
	defer close(packets)
	for range workers {
		wg.Go(func() {
			for p := range packets {
				s.serve(ctx, p)
			}
		})
	}
	return s.read(ctx, gate, packets)
}

// read takes packets off the socket; before the gate opens they are dropped.
func (s *Server) read(ctx context.Context, gate <-chan struct{}, packets chan<- packet) error {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read DHCP on %s: %w", s.c.Interface, err)
		}
		if err != nil {
			// For example the interface went down; the socket lives on.
			s.log.Warn("read DHCP packet", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case <-gate:
		default:
			continue
		}
		select {
		case packets <- packet{data: append([]byte(nil), buf[:n]...), from: from}:
		default:
			s.log.Warn("DHCP packet dropped, too many are waiting")
		}
	}
}

// serve answers one packet, or not.
func (s *Server) serve(ctx context.Context, p packet) {
	m, err := dhcpv4.FromBytes(p.data)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
		s.log.Debug("packet is not a DHCP request", "ip", p.from.String(), "err", err)
		return
	}
	if !s.limit.allow(string(m.ClientHWAddr), s.c.Now()) {
		s.log.Debug("DHCP client asks too often", "mac", m.ClientHWAddr.String())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	reply := s.answer(ctx, m)
	if reply == nil {
		return
	}
	to := destination(m, reply)
	if _, err := s.conn.WriteTo(reply.ToBytes(), to); err != nil {
		s.log.Warn("send DHCP answer", "mac", m.ClientHWAddr.String(), "ip", to.String(), "err", err)
	}
}

// destination is RFC 2131 section 4.1: to the relay; to the client's address if
// it has one; else to all. Answering all, whatever the broadcast flag says,
// reaches every client seen, and needs no raw socket.
func destination(m, reply *dhcpv4.DHCPv4) *net.UDPAddr {
	// Of a DISCOVER's ciaddr nothing is believed, lest we send to strangers.
	direct := reply.MessageType() == dhcpv4.MessageTypeAck && !unset(m.ClientIPAddr)
	switch {
	case !unset(m.GatewayIPAddr):
		return &net.UDPAddr{IP: m.GatewayIPAddr, Port: dhcpv4.ServerPort}
	case direct:
		return &net.UDPAddr{IP: m.ClientIPAddr, Port: dhcpv4.ClientPort}
	}
	return &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
}

func unset(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }
