package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/ingot-metal/ingot/controller/ipam"
	"github.com/ingot-metal/ingot/controller/store"
)

// segment is one interface that machines boot on.
type segment struct {
	name    string
	address netip.Prefix // ours, with its prefix: 10.0.0.1/24
}

// segments finds the first IPv4 address of each interface.
func segments(names []string) ([]segment, error) {
	var out []segment
	for _, name := range names {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("find interface %s: %w", name, err)
		}
		address, err := firstIPv4(ifi)
		if err != nil {
			return nil, err
		}
		out = append(out, segment{name, address})
	}
	return out, nil
}

func firstIPv4(ifi *net.Interface) (netip.Prefix, error) {
	addresses, err := ifi.Addrs()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list addresses of %s: %w", ifi.Name, err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("interface %s has no IPv4 address; give it one: ip address add 10.0.0.1/24 dev %s", ifi.Name, ifi.Name)
}

// hosts are the addresses on which machines reach us; without interfaces only
// this host itself does.
func hosts(segs []segment) []string {
	out := []string{"127.0.0.1"}
	for _, s := range segs {
		out = append(out, s.address.Addr().String())
	}
	return out
}

// ensureRanges writes the configured ranges, each into the subnet of the
// interface whose prefix holds it, and takes away those of an earlier start.
func ensureRanges(ctx context.Context, st *store.Store, c Config, segs []segment, log *slog.Logger) error {
	wanted := map[netip.Prefix][]addressRange{}
	for _, r := range c.ranges {
		seg, err := holder(segs, r)
		if err != nil {
			return err
		}
		wanted[seg.address.Masked()] = append(wanted[seg.address.Masked()], r)
	}
	if c.gateway.IsValid() && !slices.ContainsFunc(segs, func(s segment) bool { return c.gatewayIn(s.address).IsValid() }) {
		return fmt.Errorf("--gateway %s: no --interface has a subnet that holds it", c.gateway)
	}
	if err := dropRanges(ctx, st, c, segs, wanted, log); err != nil {
		return err
	}
	for _, seg := range segs {
		for _, r := range wanted[seg.address.Masked()] {
			subnet, err := st.SubnetEnsure(ctx, ipam.Subnet{CIDR: seg.address.Masked(), Gateway: c.gatewayIn(seg.address), DNS: c.dns, Domain: c.Domain})
			if err != nil {
				return err
			}
			if err := st.RangeEnsure(ctx, ipam.Range{SubnetID: subnet.ID, First: r.first, Last: r.last, Kind: ipam.KindDynamic}); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropRanges takes away dynamic ranges of our segments that are not configured.
// In a database that other controllers may share only those that stand in the
// way of ours.
func dropRanges(ctx context.Context, st *store.Store, c Config, segs []segment, wanted map[netip.Prefix][]addressRange, log *slog.Logger) error {
	subnets, err := st.SubnetList(ctx)
	if err != nil {
		return err
	}
	for _, n := range subnets {
		if !slices.ContainsFunc(segs, func(s segment) bool { return s.address.Masked() == n.CIDR }) {
			continue
		}
		have, err := st.RangeList(ctx, n.ID)
		if err != nil {
			return err
		}
		for _, r := range have {
			log := log.With("subnet", n.CIDR.String(), "range", r.First.String()+"-"+r.Last.String())
			switch keep, inTheWay := against(r, wanted[n.CIDR]); {
			case keep || r.Kind != ipam.KindDynamic:
			case c.Database != "" && !inTheWay:
				log.Warn("the database has an IP range that this controller is not configured with; its addresses are leased too")
			default:
				log.Info("IP range is not configured any more and is taken away")
				if err := st.RangeDelete(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// against compares a range with those that are wanted.
func against(r ipam.Range, wanted []addressRange) (same, overlaps bool) {
	for _, w := range wanted {
		same = same || w.first == r.First && w.last == r.Last
		overlaps = overlaps || !r.Last.Less(w.first) && !w.last.Less(r.First)
	}
	return same, overlaps
}

// gatewayIn gives the router only to the subnet that it is in.
func (c *Config) gatewayIn(p netip.Prefix) netip.Addr {
	if c.gateway.IsValid() && p.Masked().Contains(c.gateway) {
		return c.gateway
	}
	return netip.Addr{}
}

func holder(segs []segment, r addressRange) (segment, error) {
	for _, s := range segs {
		if s.address.Masked().Contains(r.first) && s.address.Masked().Contains(r.last) {
			return s, nil
		}
	}
	return segment{}, fmt.Errorf("--dhcp-range %s-%s: no --interface has a subnet that holds both addresses", r.first, r.last)
}
