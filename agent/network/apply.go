package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// apply puts the lease's address, routes and DNS servers into force. Other
// IPv4 addresses of the NIC go away before: the kernel makes a new address of
// the same network a secondary one, and removes it together with the old.
func (l Lease) apply(resolvConf string) error {
	link, err := netlink.LinkByName(l.NIC.Name)
	if err != nil {
		return fmt.Errorf("configure %s: %w", l.NIC.Name, err)
	}
	if l.MTU != 0 && l.MTU != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, l.MTU); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", l.NIC.Name, l.MTU, err)
		}
	}
	if err := l.dropOthers(link); err != nil {
		return err
	}
	seconds := int(l.Duration / time.Second)
	addr := &netlink.Addr{IPNet: toIPNet(l.Address), ValidLft: seconds, PreferedLft: seconds}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("set address %s on %s: %w", l.Address, l.NIC.Name, err)
	}
	for _, r := range l.Routes {
		if err := netlink.RouteReplace(l.route(link, r)); err != nil {
			return fmt.Errorf("set route to %s by %s on %s: %w", r.To, r.Via, l.NIC.Name, err)
		}
	}
	return writeResolvConf(resolvConf, l.resolvConf())
}

// route builds the kernel's form. A gateway outside the address's network is
// reached on the link, as point-to-point subnets of one machine need.
func (l Lease) route(link netlink.Link, r Route) *netlink.Route {
	out := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(r.To), Src: l.Address.Addr().AsSlice(), Protocol: unix.RTPROT_DHCP}
	if !r.Via.IsValid() {
		out.Scope = netlink.SCOPE_LINK
		return out
	}
	out.Gw = r.Via.AsSlice()
	if !l.Address.Masked().Contains(r.Via) {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	return out
}

func (l Lease) dropOthers(link netlink.Link) error {
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", l.NIC.Name, err)
	}
	var errs []error
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && ip != l.Address.Addr() {
			if err := netlink.AddrDel(link, &a); err != nil {
				errs = append(errs, fmt.Errorf("remove address %s of %s: %w", a.IPNet, l.NIC.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// withdraw takes the address away when its time is over.
func (l Lease) withdraw() error {
	link, err := netlink.LinkByName(l.NIC.Name)
	if err != nil {
		return fmt.Errorf("remove address of %s: %w", l.NIC.Name, err)
	}
	err = netlink.AddrDel(link, &netlink.Addr{IPNet: toIPNet(l.Address)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s of %s: %w", l.Address, l.NIC.Name, err)
	}
	return nil
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// writeResolvConf replaces the file at once: Go's resolver may be reading it.
func writeResolvConf(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write DNS servers: %w", err)
	}
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return fmt.Errorf("write DNS servers: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write DNS servers: %w", err)
	}
	return nil
}
