// Package ipam holds what an address plan is made of (subnet, IP range, lease)
// and decides which address a client gets. It is pure: no clock, no database,
// no network. IPv4 only for now; an IPv6 prefix is refused by name.
//
// Terms: a subnet is one CIDR on one segment; an IP range is a part of it that
// is dynamic (leases come from it) or reserved (never leased, whatever else is
// said about it); a lease is an address given to one client until it expires.
package ipam

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ErrNoRange says that no dynamic range is configured where the client is: the
// right answer to the client is silence, for another server may own the segment.
var ErrNoRange = errors.New("no dynamic IP range is configured for this segment")

// ErrExhausted says that every address of the dynamic ranges is in use.
var ErrExhausted = errors.New("all addresses of the dynamic IP ranges are in use")

// ErrTaken says that the address asked for is not this client's to have: another
// client holds it, it is quarantined, or it is outside the ranges of the segment.
var ErrTaken = errors.New("address cannot be leased to this client")

// Stage is what kind of software holds a lease; it decides how long leases last.
type Stage string

const (
	// StageBoot is firmware or a boot loader: minutes, for it will be gone soon.
	StageBoot Stage = "boot"
	// StageInstalled is an operating system or the resident agent: hours.
	StageInstalled Stage = "installed"
)

// Kind says what an IP range is for.
type Kind string

const (
	// KindDynamic ranges are where leases come from.
	KindDynamic Kind = "dynamic"
	// KindReserved ranges are never leased, even where a dynamic range overlaps.
	KindReserved Kind = "reserved"
)

// Subnet is one CIDR and what its clients are told.
type Subnet struct {
	ID int64
	// CIDR in masked form, for example 10.0.0.0/24.
	CIDR netip.Prefix
	// Gateway is the zero Addr when clients get no router.
	Gateway netip.Addr
	// DNS and NTP servers in order of preference; empty means none is offered.
	DNS []netip.Addr
	NTP []netip.Addr
	// Domain is the DNS suffix without a leading dot; "" means none.
	Domain string
}

// Range is a run of addresses of one subnet, both ends included.
type Range struct {
	SubnetID    int64
	First, Last netip.Addr
	Kind        Kind
}

// Contains reports whether a lies between First and Last, both included.
func (r Range) Contains(a netip.Addr) bool {
	return a.Is4() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// Client is who asks for an address.
//
// The key of a NIC that we know is its hardware address: firmware, iPXE, agent
// and installed system of one machine send four different client-ids (RFC 2132
// section 9.14), and all of them must get the same address. The client-id
// decides only for clients without a usable hardware address (IPoIB sends
// none, RFC 4390) and, at the store's discretion, for unknown ones.
type Client struct {
	// HardwareAddr is empty for IPoIB; at most 16 bytes (RFC 2131 section 2).
	HardwareAddr net.HardwareAddr
	// ClientID is option 61 as sent, type byte included; nil when absent.
	ClientID []byte
}

// Key is the bytes that name the client: "hw:" and the hardware address, or
// "id:" and the client-id when there is no hardware address. "" means that the
// client cannot be told from others and must not be given an address.
func (c Client) Key() string {
	switch {
	case len(c.HardwareAddr) > 0 && !allZero(c.HardwareAddr):
		return "hw:" + string(c.HardwareAddr)
	case len(c.ClientID) > 0:
		return "id:" + string(c.ClientID)
	}
	return ""
}

// String is Key in readable form, for logs.
func (c Client) String() string {
	if len(c.HardwareAddr) > 0 && !allZero(c.HardwareAddr) {
		return c.HardwareAddr.String()
	}
	return fmt.Sprintf("client-id %x", c.ClientID)
}

// Same reports whether both name one client.
func (c Client) Same(o Client) bool {
	return c.Key() != "" && bytes.Equal([]byte(c.Key()), []byte(o.Key()))
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// Lease is an address held by one client until Expires.
type Lease struct {
	Address netip.Addr
	Client  Client
	// Subnet is whole, so that an answer can be written without a second look-up.
	Subnet Subnet
	Stage  Stage
	// Expires is absolute; the zero time on an offer that was not committed.
	Expires time.Time
	// Hostname is what the client is told to be called; "" means nothing.
	Hostname string
}
