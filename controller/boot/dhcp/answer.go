package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
)

// asked is one request, read.
type asked struct {
	m     *dhcpv4.DHCPv4
	asker boot.Asker
	lease boot.LeaseRequest
}

// answer returns what is to be sent, or nil for silence.
func (s *Server) answer(ctx context.Context, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := asked{m: m, asker: readAsker(m)}
	a.lease = s.leaseRequest(m, a.asker)
	if a.lease.Client.Key() == "" || a.asker.VendorClass == probeClass {
		return nil
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return s.discover(ctx, a)
	case dhcpv4.MessageTypeRequest:
		return s.request(ctx, a)
	case dhcpv4.MessageTypeInform:
		return s.inform(ctx, a)
	case dhcpv4.MessageTypeRelease:
		s.release(ctx, a)
	case dhcpv4.MessageTypeDecline:
		s.decline(ctx, a)
	}
	return nil
}

func (s *Server) leaseRequest(m *dhcpv4.DHCPv4, asker boot.Asker) boot.LeaseRequest {
	r := boot.LeaseRequest{
		Client:    ipam.Client{HardwareAddr: m.ClientHWAddr, ClientID: bounded(m.Options.Get(dhcpv4.OptionClientIdentifier))},
		Requested: addr(m.RequestedIPAddress()),
		Relay:     addr(m.GatewayIPAddr),
		Interface: s.c.Address.Masked(),
		Server:    s.c.Address.Addr(),
		Stage:     ipam.StageInstalled, Duration: s.c.InstalledLease,
		Hostname:    printable(m.HostName()),
		VendorClass: printable(asker.VendorClass),
	}
	// A client behind a relay renews by unicast, without the relay: then its own
	// address says which subnet it is on.
	if held := addr(m.ClientIPAddr); !r.Relay.IsValid() && held.IsValid() && !r.Interface.Contains(held) {
		r.Relay = held
	}
	if asker.Boots() {
		r.Stage, r.Duration = ipam.StageBoot, s.c.BootLease
	}
	return r
}

// bounded cuts an option that was sent in several parts (RFC 3396).
func bounded(b []byte) []byte {
	if len(b) > 255 {
		b = b[:255]
	}
	return b
}

// printable makes text of the wire fit for a database and a screen.
func printable(s string) string {
	s = string(bounded([]byte(s)))
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

func (s *Server) discover(ctx context.Context, a asked) *dhcpv4.DHCPv4 {
	s.observe(ctx, a, boot.SeenDiscover, a.lease.VendorClass)
	l, err := s.c.Leases.LeaseOffer(ctx, a.lease)
	if err != nil {
		s.silent(ctx, a, err)
		return nil
	}
	offer := s.offer(ctx, a)
	s.observe(ctx, a, boot.SeenOffer, describe(l, offer))
	return s.reply(a, dhcpv4.MessageTypeOffer, l, offer, a.lease.Duration)
}

// request answers a REQUEST in any of its four states (RFC 2131 section 4.3.2):
// selecting names a server; init-reboot names an address only; renewing and
// rebinding have the address in ciaddr.
func (s *Server) request(ctx context.Context, a asked) *dhcpv4.DHCPv4 {
	server := addr(a.m.ServerIdentifier())
	if server.IsValid() && server != s.c.Address.Addr() {
		// The client took another server's offer.
		s.log.Info("DHCP client took the offer of another server", "mac", a.m.ClientHWAddr.String(), "ip", server.String())
		return nil
	}
	if held := addr(a.m.ClientIPAddr); held.IsValid() {
		a.lease.Requested = held
	}
	if !a.lease.Requested.IsValid() {
		return nil
	}
	// The lease counts from before it was asked for, by our own clock: the
	// store's may differ, and what the client is told must never be longer.
	start := s.c.Now()
	l, err := s.c.Leases.LeaseCommit(ctx, a.lease)
	if err != nil {
		return s.refused(ctx, a, server, err)
	}
	if l.Address != a.lease.Requested {
		s.silent(ctx, a, fmt.Errorf("the store leased %s when %s was asked for", l.Address, a.lease.Requested))
		return nil
	}
	l.Client, l.Expires = a.lease.Client, start.Add(a.lease.Duration)
	s.known.keep(l)
	return s.ack(ctx, a, l, a.lease.Duration)
}

// refused answers a REQUEST that the store did not commit.
func (s *Server) refused(ctx context.Context, a asked, server netip.Addr, err error) *dhcpv4.DHCPv4 {
	switch {
	case errors.Is(err, ipam.ErrTaken):
		s.known.forget(a.lease.Client)
		s.observe(ctx, a, boot.SeenNak, a.lease.Requested.String()+" is not to be had")
		return s.nak(a)
	case errors.Is(err, ipam.ErrNoRange), errors.Is(err, ipam.ErrExhausted), server.IsValid():
		s.silent(ctx, a, err)
		return nil
	}
	// The store is away. What we acknowledged ourselves stands for its time; a
	// client that renews hears how much of it remains.
	now := s.c.Now()
	l, ok := s.known.find(a.lease.Client, a.lease.Requested, now)
	if !ok {
		s.silent(ctx, a, err)
		return nil
	}
	s.log.Warn("lease confirmed for its remaining time only, the store cannot be asked", "mac", a.m.ClientHWAddr.String(), "ip", l.Address.String(), "err", err)
	return s.ack(ctx, a, l, l.Expires.Sub(now).Truncate(time.Second))
}

func (s *Server) ack(ctx context.Context, a asked, l ipam.Lease, left time.Duration) *dhcpv4.DHCPv4 {
	offer := s.offer(ctx, a)
	s.log.Info("lease acknowledged", "mac", a.m.ClientHWAddr.String(), "ip", l.Address.String(), "stage", string(a.lease.Stage), "elapsed", left)
	s.observe(ctx, a, boot.SeenAck, describe(l, offer))
	return s.reply(a, dhcpv4.MessageTypeAck, l, offer, left)
}

// inform tells a client with an address of its own the rest (RFC 2131 section
// 4.3.5): no address, no lease time.
func (s *Server) inform(ctx context.Context, a asked) *dhcpv4.DHCPv4 {
	sub, err := s.c.Leases.SubnetFind(ctx, a.lease)
	if err != nil {
		s.silent(ctx, a, err)
		return nil
	}
	return s.reply(a, dhcpv4.MessageTypeAck, ipam.Lease{Subnet: sub}, s.offer(ctx, a), 0)
}

func (s *Server) release(ctx context.Context, a asked) {
	held := addr(a.m.ClientIPAddr)
	if !held.IsValid() || addr(a.m.ServerIdentifier()) != s.c.Address.Addr() {
		return
	}
	s.known.forget(a.lease.Client)
	if err := s.c.Leases.LeaseRelease(ctx, a.lease.Client, held); err != nil {
		s.log.Warn("release lease; it will expire by itself", "mac", a.m.ClientHWAddr.String(), "ip", held.String(), "err", err)
	}
}

func (s *Server) decline(ctx context.Context, a asked) {
	if !a.lease.Requested.IsValid() || addr(a.m.ServerIdentifier()) != s.c.Address.Addr() {
		return
	}
	s.known.forget(a.lease.Client)
	s.observe(ctx, a, boot.SeenDecline, a.lease.Requested.String()+" is used by somebody else on the segment")
	s.log.Warn("client found its address in use by somebody else", "mac", a.m.ClientHWAddr.String(), "ip", a.lease.Requested.String())
	if err := s.c.Leases.LeaseDecline(ctx, a.lease.Client, a.lease.Requested); err != nil {
		s.log.Error("put declined address in quarantine", "ip", a.lease.Requested.String(), "err", err)
	}
}

// silent notes why a client gets no answer.
func (s *Server) silent(ctx context.Context, a asked, err error) {
	s.log.Warn("DHCP request left unanswered", "mac", a.m.ClientHWAddr.String(), "type", a.m.MessageType().String(), "err", err)
	detail := "the controller cannot reach its database"
	for _, known := range []error{ipam.ErrNoRange, ipam.ErrExhausted, ipam.ErrTaken} {
		if errors.Is(err, known) {
			detail = known.Error()
		}
	}
	s.observe(ctx, a, boot.SeenSilence, detail)
}

// offer asks what the client should boot. A store that cannot tell does not
// stop a boot: the script says so on the console and tries again.
func (s *Server) offer(ctx context.Context, a asked) boot.Offer {
	if !a.asker.Boots() {
		return boot.Offer{}
	}
	kind := boot.TargetAgent
	if t, err := s.c.Directory.BootTarget(ctx, a.asker.MAC, a.asker.UUID); err == nil {
		kind = t.Kind
	}
	return boot.Decide(a.asker, kind, s.base)
}

func (s *Server) observe(ctx context.Context, a asked, what boot.What, detail string) {
	if s.c.Observer == nil {
		return
	}
	s.c.Observer.BootObserved(ctx, boot.Observation{MAC: a.m.ClientHWAddr, UUID: a.asker.UUID, What: what, Detail: detail, At: s.c.Now()})
}

func describe(l ipam.Lease, o boot.Offer) string {
	d := l.Address.String()
	if o.File != "" {
		d += ", boot " + o.File
	}
	if o.Note != "" {
		d += ", " + o.Note
	}
	return d
}
