package dhcp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
)

var (
	lan    = netip.MustParsePrefix("10.0.0.0/24")
	server = netip.MustParsePrefix("10.0.0.1/24")
	nic1   = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	nic2   = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}
)

var errAway = errors.New("connection refused")

// book is a lease store in memory that keeps the contract of boot.Leases.
type book struct {
	mu       sync.Mutex
	subnets  []ipam.Subnet
	ranges   []ipam.Range
	held     map[netip.Addr]ipam.Lease
	previous map[string]netip.Addr
	bad      map[netip.Addr]bool
	away     bool
	now      func() time.Time
	requests []boot.LeaseRequest
}

func newBook(now func() time.Time) *book {
	a := netip.MustParseAddr
	return &book{
		subnets: []ipam.Subnet{
			{ID: 1, CIDR: lan, Gateway: a("10.0.0.254"), DNS: []netip.Addr{a("10.0.0.1")}, NTP: []netip.Addr{a("10.0.0.1")}, Domain: "lab.example"},
			{ID: 2, CIDR: netip.MustParsePrefix("10.7.0.0/24")},
		},
		ranges: []ipam.Range{
			{SubnetID: 1, First: a("10.0.0.10"), Last: a("10.0.0.12"), Kind: ipam.KindDynamic},
			{SubnetID: 2, First: a("10.7.0.10"), Last: a("10.7.0.12"), Kind: ipam.KindDynamic},
		},
		held: map[netip.Addr]ipam.Lease{}, previous: map[string]netip.Addr{}, bad: map[netip.Addr]bool{}, now: now,
	}
}

func (b *book) choice(r boot.LeaseRequest) (ipam.Choice, error) {
	b.requests = append(b.requests, r)
	if b.away {
		return ipam.Choice{}, errAway
	}
	for _, s := range b.subnets {
		if r.Relay.IsValid() && !s.CIDR.Contains(r.Relay) || !r.Relay.IsValid() && s.CIDR != r.Interface {
			continue
		}
		var own []ipam.Range
		for _, x := range b.ranges {
			if x.SubnetID == s.ID {
				own = append(own, x)
			}
		}
		return ipam.Choice{
			Subnet: s, Ranges: own, Client: r.Client, Previous: b.previous[r.Client.Key()], Requested: r.Requested, Avoid: []netip.Addr{r.Server},
			Taken: func(a netip.Addr) bool {
				l, ok := b.held[a]
				return b.bad[a] || ok && l.Expires.After(b.now()) && !l.Client.Same(r.Client)
			},
		}, nil
	}
	return ipam.Choice{}, ipam.ErrNoRange
}

func (b *book) LeaseOffer(_ context.Context, r boot.LeaseRequest) (ipam.Lease, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.choice(r)
	if err != nil {
		return ipam.Lease{}, err
	}
	a, err := c.Address()
	return ipam.Lease{Address: a, Client: r.Client, Subnet: c.Subnet, Stage: r.Stage, Hostname: "node1"}, err
}

func (b *book) LeaseCommit(_ context.Context, r boot.LeaseRequest) (ipam.Lease, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.choice(r)
	if err != nil {
		return ipam.Lease{}, err
	}
	if err := c.Check(r.Requested); err != nil {
		return ipam.Lease{}, err
	}
	l := ipam.Lease{Address: r.Requested, Client: r.Client, Subnet: c.Subnet, Stage: r.Stage, Expires: b.now().Add(r.Duration), Hostname: "node1"}
	b.held[l.Address], b.previous[r.Client.Key()] = l, l.Address
	return l, nil
}

func (b *book) LeaseRelease(_ context.Context, c ipam.Client, a netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[a].Client.Same(c) {
		delete(b.held, a)
	}
	return nil
}

func (b *book) LeaseDecline(_ context.Context, c ipam.Client, a netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[a].Client.Same(c) {
		delete(b.held, a)
		b.bad[a] = true
	}
	return nil
}

func (b *book) SubnetFind(_ context.Context, r boot.LeaseRequest) (ipam.Subnet, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.choice(r)
	return c.Subnet, err
}

func (b *book) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

// targets answers BootTarget from a map by MAC; others get the agent.
type targets map[string]boot.TargetKind

func (t targets) BootTarget(_ context.Context, mac net.HardwareAddr, _ string) (boot.Target, error) {
	if k, ok := t[mac.String()]; ok {
		return boot.Target{Kind: k}, nil
	}
	return boot.Target{Kind: boot.TargetAgent}, nil
}

func (targets) SessionOpen(context.Context, boot.SessionRequest) (boot.Session, error) {
	return boot.Session{}, errors.New("DHCP must not open boot sessions")
}

// sent is one answer and where it went.
type sent struct {
	m  *dhcpv4.DHCPv4
	to *net.UDPAddr
}

// wire is a net.PacketConn in memory.
type wire struct {
	in     chan []byte
	out    chan sent
	closed chan struct{}
	once   sync.Once
}

func newWire() *wire {
	return &wire{in: make(chan []byte), out: make(chan sent, 100), closed: make(chan struct{})}
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-w.in:
		return copy(b, p), &net.UDPAddr{IP: net.IPv4zero, Port: 68}, nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return 0, err
	}
	w.out <- sent{m, to.(*net.UDPAddr)}
	return len(b), nil
}

func (w *wire) Close() error                     { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (w *wire) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (w *wire) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// clock is time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type bench struct {
	*Server
	book  *book
	clock *clock
	dir   targets
}

// newBench makes a server whose answers are asked for one by one.
func newBench(t testing.TB) *bench {
	t.Helper()
	c := newClock()
	b := &bench{book: newBook(c.now), clock: c, dir: targets{}}
	s, err := New(Config{
		Interface: "test0", Address: server, HTTPPort: 8080, Leases: b.book, Directory: b.dir,
		SkipProbe: true, Log: slog.New(slog.DiscardHandler), Now: c.now,
	}, newWire())
	if err != nil {
		t.Fatal(err)
	}
	b.Server = s
	return b
}

// ask sends real packet bytes through the parser and returns what would be sent.
func (b *bench) ask(t testing.TB, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, *net.UDPAddr) {
	t.Helper()
	b.clock.add(10 * time.Second)
	w := newWire()
	b.conn = w
	b.serve(t.Context(), packet{data: m.ToBytes(), from: &net.UDPAddr{IP: net.IPv4zero, Port: 68}})
	select {
	case s := <-w.out:
		return s.m, s.to
	default:
		return nil, nil
	}
}

// message builds a request of a client.
func message(t testing.TB, mac net.HardwareAddr, mt dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(mt)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func ours() dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.Addr().AsSlice()))
}

func ciaddr(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }
