package download

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ErrRefused: this URL, or one that it led to, is not fetched from. The text
// says which and why.
var ErrRefused = errors.New("the source is refused")

// Policy says where files may come from; the zero value is usable.
type Policy struct {
	// RefusePrivate also refuses the addresses of private networks (RFC 1918,
	// RFC 4193, RFC 6598).
	RefusePrivate bool
	// Allow are networks that are allowed whatever else is said here, such as
	// 127.0.0.0/8 in a lab.
	Allow []netip.Prefix
	// Proxy, if not nil, is asked for everything. It resolves the names, so that
	// only addresses written in a URL can be judged here.
	Proxy *url.URL
	// RootCAs replaces the system's, if not nil.
	RootCAs *x509.CertPool
}

// zone is how far inside an address is. A redirect may lead outwards only.
type zone int

const (
	public zone = iota
	inner
)

// metadata are the addresses at which clouds tell secrets to their machines,
// besides the link-local ones.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"),
	netip.MustParseAddr("168.63.129.16"),
}

var (
	private = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7", "fec0::/10")
	// special are addresses that no mirror has (IANA's special-purpose registries).
	special = prefixes("0.0.0.0/8", "192.0.0.0/24", "240.0.0.0/4", "::/96", "100::/64", "64:ff9b:1::/48", "2001::/32")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixToV4 = netip.MustParsePrefix("2002::/16")
)

func prefixes(s ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// zoneOf judges an address, or gives ErrRefused.
func (p Policy) zoneOf(a netip.Addr) (zone, error) {
	a = a.Unmap().WithZone("")
	if within(p.Allow, a) {
		return inner, nil
	}
	// An address that carries another one leads there.
	switch raw := a.As16(); {
	case nat64.Contains(a):
		return p.zoneOf(netip.AddrFrom4([4]byte(raw[12:16])))
	case sixToV4.Contains(a):
		return p.zoneOf(netip.AddrFrom4([4]byte(raw[2:6])))
	}
	refuse := func(why string) (zone, error) {
		return inner, fmt.Errorf("%w: %s is %s", ErrRefused, a, why)
	}
	for _, m := range metadata {
		if a == m {
			return refuse("a cloud's metadata address")
		}
	}
	switch {
	case a.IsLoopback():
		return refuse("a loopback address")
	case a.IsLinkLocalUnicast():
		return refuse("a link-local address")
	case a.IsMulticast(), a.IsUnspecified(), within(special, a):
		return refuse("no address of a server")
	case within(private, a) && p.RefusePrivate:
		return refuse("a private address, which this site does not allow")
	case within(private, a):
		return inner, nil
	}
	return public, nil
}

// parse judges a URL by its text.
func (p Policy) parse(text string) (*url.URL, error) {
	if len(text) > 4096 {
		return nil, fmt.Errorf("%w: a URL of %d characters", ErrRefused, len(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		// url.Error repeats the text, which may hold a password.
		return nil, fmt.Errorf("%w: it is no URL that can be read", ErrRefused)
	}
	return u, p.judge(u)
}

func (p Policy) judge(u *url.URL) error {
	host := u.Hostname()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: %.20q URLs are not read, only http and https", ErrRefused, u.Scheme)
	case u.User != nil:
		return fmt.Errorf("%w: a URL with a user name or password in it", ErrRefused)
	case host == "":
		return fmt.Errorf("%w: a URL without a host", ErrRefused)
	case strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") && !within(p.Allow, netip.AddrFrom4([4]byte{127, 0, 0, 1})):
		return fmt.Errorf("%w: localhost", ErrRefused)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		_, err = p.zoneOf(a)
		return err
	}
	return nil
}
