package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"go.yaml.in/yaml/v3"
)

const (
	dhcpTimeout = 2 * time.Second // for one answer
	dhcpRetries = 3
	dhcpPause   = 3 * time.Second // between two rounds
	linkWait    = 10 * time.Second
)

// nic is one NIC that shall get an address.
type nic struct {
	// MAC in lower case with colons; "" means any NIC with the name.
	MAC string
	// Name as the kernel has it, used when MAC is "".
	Name string
	// Optional NICs do not hold up the boot.
	Optional bool
}

// parseNetwork reads a network-config of version 2 (netplan's): the Ethernet
// NICs that ask for DHCP, those that are not optional first. Nothing in it means
// the first NIC there is.
func parseNetwork(data []byte) ([]nic, error) {
	type config struct {
		Ethernets map[string]struct {
			Match struct {
				MAC  string `yaml:"macaddress"`
				Name string `yaml:"name"`
			} `yaml:"match"`
			DHCP4    bool `yaml:"dhcp4"`
			Optional bool `yaml:"optional"`
		} `yaml:"ethernets"`
	}
	var top struct {
		Network config `yaml:"network"`
		config  `yaml:",inline"`
	}
	if err := yaml.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("parse network-config: %w", err)
	}
	ethernets := top.Ethernets
	if len(ethernets) == 0 {
		ethernets = top.Network.Ethernets
	}
	var out []nic
	for id, e := range ethernets {
		if !e.DHCP4 {
			continue
		}
		n := nic{MAC: strings.ToLower(e.Match.MAC), Name: e.Match.Name, Optional: e.Optional}
		if n.MAC == "" && n.Name == "" {
			n.Name = id
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b nic) int {
		if a.Optional != b.Optional {
			if a.Optional {
				return 1
			}
			return -1
		}
		return strings.Compare(a.MAC+a.Name, b.MAC+b.Name)
	})
	return out, nil
}

// holdLeases takes and renews an address for each NIC until ctx ends; the first
// address makes ready.
func holdLeases(ctx context.Context, nics []nic, hostname string, ready chan<- struct{}) {
	if len(nics) == 0 {
		nics = []nic{{}}
	}
	var wg sync.WaitGroup
	for i, n := range nics {
		wg.Go(func() {
			link, err := findLink(ctx, n)
			if err != nil {
				say("problem", "err", err.Error())
				return
			}
			// One default route is enough; it belongs to the first NIC.
			l := lessee{link: link, hostname: hostname, withRoute: i == 0, ready: ready}
			l.hold(ctx)
		})
	}
	wg.Wait()
}

// findLink waits for the NIC: drivers may still be at work.
func findLink(ctx context.Context, n nic) (netlink.Link, error) {
	for deadline := time.Now().Add(linkWait); ; {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("list NICs: %w", err)
		}
		for _, l := range links {
			a := l.Attrs()
			if a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != 6 {
				continue
			}
			if n == (nic{Optional: n.Optional}) || n.MAC != "" && a.HardwareAddr.String() == n.MAC || n.MAC == "" && a.Name == n.Name {
				return l, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no NIC with MAC %q or name %q", n.MAC, n.Name)
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
}

// lessee keeps the address of one NIC.
type lessee struct {
	link      netlink.Link
	hostname  string
	withRoute bool
	ready     chan<- struct{}
}

func (l lessee) hold(ctx context.Context) {
	if err := linkUp(l.link.Attrs().Name); err != nil {
		say("problem", "err", err.Error())
	}
	var held string
	for ctx.Err() == nil {
		life, ip, err := l.lease(ctx)
		if err != nil {
			say("problem", "err", fmt.Sprintf("DHCP on %s: %v", l.link.Attrs().Name, err))
			_ = pause(ctx, dhcpPause)
			continue
		}
		if ip != held {
			say("address", "nic", l.link.Attrs().Name, "mac", l.link.Attrs().HardwareAddr.String(), "ip", ip)
			held = ip
		}
		select {
		case l.ready <- struct{}{}:
		default:
		}
		// Asking anew at half the lease gets the same address again: the server
		// knows the NIC by its MAC.
		_ = pause(ctx, max(life/2, dhcpPause))
	}
}

// lease asks once and configures the NIC. The client-id is the hardware address
// (RFC 2132 section 9.14), as the firmware's address went to the same NIC.
func (l lessee) lease(ctx context.Context) (life time.Duration, ip string, err error) {
	attrs := l.link.Attrs()
	client, err := nclient4.New(attrs.Name, nclient4.WithHWAddr(attrs.HardwareAddr), nclient4.WithTimeout(dhcpTimeout), nclient4.WithRetry(dhcpRetries))
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	got, err := client.Request(ctx,
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, attrs.HardwareAddr...))),
		dhcpv4.WithOption(dhcpv4.OptHostName(l.hostname)))
	if err != nil {
		return 0, "", err
	}
	ack := got.ACK
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ack.YourIPAddr, Mask: mask}}
	if err := netlink.AddrReplace(l.link, addr); err != nil {
		return 0, "", fmt.Errorf("set address %s: %w", addr, err)
	}
	if routers := ack.Router(); l.withRoute && len(routers) > 0 {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: attrs.Index, Gw: routers[0]}); err != nil {
			say("problem", "err", fmt.Sprintf("set default route %s: %v", routers[0], err))
		}
	}
	if l.withRoute {
		writeResolver(ack.DNS())
	}
	return ack.IPAddressLeaseTime(time.Hour), ack.YourIPAddr.String(), nil
}

func writeResolver(servers []net.IP) {
	var text strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	if err := os.WriteFile("/etc/resolv.conf", []byte(text.String()), 0o644); err != nil {
		say("problem", "err", err.Error())
	}
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find NIC %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up NIC %s: %w", name, err)
	}
	return nil
}

// pause waits, or returns the reason why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
