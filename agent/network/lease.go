package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is what a DHCP server gave (RFC 2131, 2132).
type Lease struct {
	// NIC that it is for.
	NIC NIC
	// Address with the length of its network's prefix.
	Address netip.Prefix
	// Routes in the order given; the default route has the prefix 0.0.0.0/0.
	Routes []Route
	// DNS servers, at most 3, and the domain that unqualified names are in.
	DNS    []netip.Addr
	Domain string
	// NTP servers, at most 3.
	NTP []netip.Addr
	// MTU in bytes; 0 when the server named none.
	MTU int
	// Server that gave it.
	Server netip.Addr
	// Obtained is when the server said yes; the lease is good for Duration.
	Obtained time.Time
	Duration time.Duration

	ack *dhcpv4.DHCPv4
}

// Route leads to a network by a gateway; without one the network is on the link.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

const (
	maxServers = 3 // glibc and Go read no more from resolv.conf
	maxRoutes  = 64
	// minDuration keeps a hostile or mistaken server from making us renew all
	// the time.
	minDuration = 30 * time.Second
	maxDuration = 365 * 24 * time.Hour
	maxMTU      = 9216
)

// readLease checks an acknowledgement and takes from it what we use.
func readLease(nic NIC, ack *dhcpv4.DHCPv4, now time.Time) (Lease, error) {
	l := Lease{NIC: nic, Obtained: now, ack: ack}
	addr, ok := toAddr(ack.YourIPAddr)
	if !ok || !isHost(addr) {
		return l, fmt.Errorf("server gives %v, which is no host's address", ack.YourIPAddr)
	}
	bits, size := ack.SubnetMask().Size()
	if size != 32 || bits < 1 {
		return l, fmt.Errorf("server gives %s without a usable netmask", addr)
	}
	l.Address = netip.PrefixFrom(addr, bits)
	l.Server, _ = toAddr(ack.ServerIdentifier())
	l.Duration = min(max(ack.IPAddressLeaseTime(time.Hour), minDuration), maxDuration)
	l.Routes = readRoutes(ack)
	l.DNS, l.NTP = hosts(ack.DNS()), hosts(ack.NTPServers())
	if d := strings.TrimRight(ack.DomainName(), "\x00"); isDomain(d) {
		l.Domain = d
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 && mtu <= maxMTU {
		l.MTU = int(mtu)
	}
	return l, nil
}

// readRoutes takes the classless routes, which replace the router option where
// both are given (RFC 3442).
func readRoutes(ack *dhcpv4.DHCPv4) []Route {
	var out []Route
	for _, r := range ack.ClasslessStaticRoute() {
		to, toOK := toPrefix(r.Dest)
		via, viaOK := toAddr(r.Router)
		if toOK && viaOK && len(out) < maxRoutes {
			if via.IsUnspecified() {
				via = netip.Addr{} // on the link
			}
			out = append(out, Route{to, via})
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, ip := range ack.Router() {
		if via, ok := toAddr(ip); ok && isHost(via) {
			return []Route{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), via}}
		}
	}
	return nil
}

func hosts(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := toAddr(ip); ok && isHost(a) && len(out) < maxServers {
			out = append(out, a)
		}
	}
	return out
}

func toAddr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok && a.Unmap().Is4()
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := toAddr(n.IP)
	bits, size := n.Mask.Size()
	return netip.PrefixFrom(a, bits).Masked(), ok && size == 32
}

// isHost leaves out what no machine can have as its address.
func isHost(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isDomain says whether a name may be written into resolv.conf.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
}

// resolvConf is the content of /etc/resolv.conf for the lease.
func (l Lease) resolvConf() []byte {
	var b strings.Builder
	for _, s := range l.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if l.Domain != "" {
		fmt.Fprintf(&b, "search %s\n", l.Domain)
	}
	return []byte(b.String())
}

// errNoLease: nobody gave an address in time.
var errNoLease = errors.New("no DHCP server gave an address")
