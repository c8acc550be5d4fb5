package ipam

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
)

// MaxProbes bounds how many addresses one choice looks at. A dynamic range may
// be larger; a client that finds this many addresses taken in a row is told
// that the ranges are exhausted.
const MaxProbes = 1 << 20

// Choice is everything that decides which address a client gets.
type Choice struct {
	Subnet Subnet
	// Ranges of this subnet, both kinds; the order does not matter.
	Ranges []Range
	Client Client
	// Previous is the last address that this client held here, zero for none.
	Previous netip.Addr
	// Requested is what the client asks for, zero for none.
	Requested netip.Addr
	// Avoid lists addresses that are never given, such as the server's own.
	Avoid []netip.Addr
	// Taken reports whether another client holds the address or it is in
	// quarantine. It is called at most MaxProbes+2 times; nil means none is.
	Taken func(netip.Addr) bool
}

// Address picks an address: the one the client had, else the one it asks for,
// else the first free one in an order that depends on the client alone, so that
// it likely gets the same again even after its lease was forgotten. Network,
// broadcast, gateway and reserved addresses are never given.
// Errors: ErrNoRange, ErrExhausted.
func (c Choice) Address() (netip.Addr, error) {
	if !c.Subnet.CIDR.Addr().Is4() {
		return netip.Addr{}, fmt.Errorf("choose an address in %s: only IPv4 subnets can lease: %w", c.Subnet.CIDR, ErrNoRange)
	}
	dynamic, total := c.dynamic()
	if total == 0 {
		return netip.Addr{}, ErrNoRange
	}
	for _, a := range []netip.Addr{c.Previous, c.Requested} {
		if c.Leasable(a) && !c.taken(a) {
			return a, nil
		}
	}
	start := c.start(total)
	for i := uint64(0); i < min(total, MaxProbes); i++ {
		a := nth(dynamic, (start+i)%total)
		if c.Leasable(a) && !c.taken(a) {
			return a, nil
		}
	}
	return netip.Addr{}, ErrExhausted
}

// Check reports whether the client may have exactly this address: nil,
// ErrNoRange, or ErrTaken. It is what answers a DHCPREQUEST.
func (c Choice) Check(a netip.Addr) error {
	if _, total := c.dynamic(); total == 0 {
		return ErrNoRange
	}
	if !c.Leasable(a) || c.taken(a) {
		return ErrTaken
	}
	return nil
}

// Leasable reports whether the plan alone allows the address to be leased,
// whoever may hold it now.
func (c Choice) Leasable(a netip.Addr) bool {
	if !a.Is4() || !c.Subnet.CIDR.Contains(a) || a == c.Subnet.Gateway {
		return false
	}
	// RFC 3021: a /31 or /32 has neither network nor broadcast address.
	if c.Subnet.CIDR.Bits() < 31 && (a == c.Subnet.CIDR.Masked().Addr() || a == Broadcast(c.Subnet.CIDR)) {
		return false
	}
	for _, avoid := range c.Avoid {
		if a == avoid {
			return false
		}
	}
	in := false
	for _, r := range c.Ranges {
		if !r.Contains(a) {
			continue
		}
		// An unknown kind is treated as reserved: refuse rather than guess.
		if r.Kind != KindDynamic {
			return false
		}
		in = true
	}
	return in
}

func (c Choice) taken(a netip.Addr) bool { return c.Taken != nil && c.Taken(a) }

// dynamic lists the usable dynamic ranges and how many addresses they hold.
func (c Choice) dynamic() ([]Range, uint64) {
	var out []Range
	var total uint64
	for _, r := range c.Ranges {
		if r.Kind == KindDynamic && r.Validate(c.Subnet) == nil {
			out = append(out, r)
			total += r.size()
		}
	}
	return out, total
}

// start is where this client's walk begins: FNV-1a of its key, so that clients
// spread over the range and the order survives restarts.
func (c Choice) start(total uint64) uint64 {
	h := fnv.New64a()
	h.Write([]byte(c.Client.Key()))
	return h.Sum64() % total
}

// Validate reports what is wrong with the range as a part of s.
func (r Range) Validate(s Subnet) error {
	switch {
	case r.Kind != KindDynamic && r.Kind != KindReserved:
		return fmt.Errorf("IP range %s-%s: kind %q is neither dynamic nor reserved", r.First, r.Last, r.Kind)
	case !r.First.Is4() || !r.Last.Is4():
		return fmt.Errorf("IP range %s-%s: both ends must be IPv4 addresses", r.First, r.Last)
	case !s.CIDR.Contains(r.First) || !s.CIDR.Contains(r.Last):
		return fmt.Errorf("IP range %s-%s is not inside subnet %s", r.First, r.Last, s.CIDR)
	case r.Last.Less(r.First):
		return fmt.Errorf("IP range %s-%s ends before it begins", r.First, r.Last)
	}
	return nil
}

func (r Range) size() uint64 {
	return uint64(v4(r.Last)) - uint64(v4(r.First)) + 1
}

// nth is the n-th address of the ranges laid end to end.
func nth(ranges []Range, n uint64) netip.Addr {
	for _, r := range ranges {
		if n < r.size() {
			return fromV4(v4(r.First) + uint32(n))
		}
		n -= r.size()
	}
	return netip.Addr{}
}

// Broadcast is the last address of an IPv4 prefix; zero for IPv6.
func Broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	host := uint32(uint64(1)<<(32-p.Bits()) - 1)
	return fromV4(v4(p.Masked().Addr()) | host)
}

func v4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromV4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
