package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// probeClass is the vendor class of our own look-out. Servers of ours do not
// answer it, so that several controllers can share one segment.
const probeClass = "ingot-probe"

// lookOut opens the gate when no other DHCP server answers on the segment, and
// looks again and again while one does.
func (s *Server) lookOut(ctx context.Context, gate chan<- struct{}) {
	for !s.c.SkipProbe {
		other, err := s.c.Probe(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			s.log.Warn("looking for another DHCP server did not work; no DHCP answers until it does", "err", err)
		case other.IsValid():
			s.log.Error("another DHCP server answers on this segment; no DHCP answers from here while it does: switch it off, or choose another interface", "ip", other.String())
		default:
			s.log.Info("no other DHCP server on this segment, answering now")
			close(gate)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.c.ProbeEvery):
		}
	}
	close(gate)
}

// Probe sends a DISCOVER on the interface and waits for an offer of a server
// other than self. It uses a packet socket, so that it works beside a DHCP
// client of the host, and it never requests what it is offered. The zero Addr
// means that nobody answered in time.
func Probe(ctx context.Context, ifname string, self netip.Addr, wait time.Duration) (netip.Addr, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look for DHCP servers: find interface %s: %w", ifname, err)
	}
	conn, err := nclient4.NewRawUDPConn(ifname, dhcpv4.ClientPort)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look for DHCP servers on %s: %w", ifname, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	discover, err := dhcpv4.NewDiscovery(ifi.HardwareAddr, dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(probeClass)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look for DHCP servers on %s: %w", ifname, err)
	}
	return exchange(conn, discover, self, wait)
}

// exchange sends the DISCOVER twice within wait, for one packet may be lost.
func exchange(conn net.PacketConn, discover *dhcpv4.DHCPv4, self netip.Addr, wait time.Duration) (netip.Addr, error) {
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}
	for range 2 {
		if _, err := conn.WriteTo(discover.ToBytes(), to); err != nil {
			return netip.Addr{}, fmt.Errorf("look for DHCP servers: send DISCOVER: %w", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait / 2)); err != nil {
			return netip.Addr{}, fmt.Errorf("look for DHCP servers: %w", err)
		}
		other, err := firstOffer(conn, discover, self)
		if err != nil || other.IsValid() {
			return other, err
		}
	}
	return netip.Addr{}, nil
}

func firstOffer(conn net.PacketConn, discover *dhcpv4.DHCPv4, self netip.Addr) (netip.Addr, error) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return netip.Addr{}, nil
		}
		if err != nil {
			return netip.Addr{}, fmt.Errorf("look for DHCP servers: wait for offers: %w", err)
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || !bytes.Equal(m.TransactionID[:], discover.TransactionID[:]) {
			continue
		}
		if other := addr(m.ServerIdentifier()); other.IsValid() && other != self {
			return other, nil
		}
		if u, ok := from.(*net.UDPAddr); ok && m.ServerIdentifier() == nil && addr(u.IP) != self {
			return addr(u.IP), nil
		}
	}
}

// addr turns an IPv4 address of the DHCP library into ours; zero for none.
func addr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
