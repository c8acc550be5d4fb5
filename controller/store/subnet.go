package store

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
	"github.com/ingot-metal/ingot/proto/fault"
)

// SubnetEnsure makes the subnet, or brings what its clients are told up to date;
// ID is ignored. One that overlaps another is fault.Exists.
func (s *Store) SubnetEnsure(ctx context.Context, n ipam.Subnet) (ipam.Subnet, error) {
	if !n.CIDR.IsValid() || !n.CIDR.Addr().Is4() {
		return n, fault.New(fault.Invalid, "subnet %s: want an IPv4 CIDR such as 10.0.0.0/24", n.CIDR)
	}
	n.CIDR = n.CIDR.Masked()
	err := s.tx(ctx, fmt.Sprintf("set up subnet %s", n.CIDR), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("SubnetTableLock")); err != nil {
			return err
		}
		var other netip.Prefix
		err := tx.QueryRow(ctx, s.sql.Get("SubnetOverlaps"), n.CIDR).Scan(&other)
		if err == nil {
			return fault.New(fault.Exists, "subnet %s overlaps %s", n.CIDR, other)
		}
		if err != pgx.ErrNoRows {
			return err
		}
		return tx.QueryRow(ctx, s.sql.Get("SubnetEnsure"), n.CIDR, address(n.Gateway), list(n.DNS), list(n.NTP), n.Domain).Scan(&n.ID)
	})
	return n, err
}

// list is never NULL.
func list(a []netip.Addr) []netip.Addr {
	if a == nil {
		return []netip.Addr{}
	}
	return a
}

func address(a netip.Addr) *netip.Addr {
	if !a.IsValid() {
		return nil
	}
	return &a
}

// RangeEnsure makes an IP range unless the same is there. One of the same kind
// that overlaps it is fault.Exists.
func (s *Store) RangeEnsure(ctx context.Context, r ipam.Range) error {
	return s.tx(ctx, fmt.Sprintf("set up IP range %s-%s", r.First, r.Last), func(tx pgx.Tx) error {
		n, err := s.subnetByID(ctx, tx, r.SubnetID)
		if err != nil {
			return err
		}
		if err := r.Validate(n); err != nil {
			return fault.Wrap(fault.Invalid, err, "set up an IP range")
		}
		_, err = tx.Exec(ctx, s.sql.Get("RangeEnsure"), r.SubnetID, r.First, r.Last, r.Kind)
		if c := constraint(err); c == "ip_range_dynamic" || c == "ip_range_reserved" {
			return fault.New(fault.Exists, "IP range %s-%s overlaps another %s range of %s", r.First, r.Last, r.Kind, n.CIDR)
		}
		return err
	})
}

// RangeDelete takes an IP range away; leases in it run out. No such range is no
// error.
func (s *Store) RangeDelete(ctx context.Context, r ipam.Range) error {
	return s.tx(ctx, fmt.Sprintf("delete IP range %s-%s", r.First, r.Last), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("SubnetLock"), r.SubnetID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.sql.Get("RangeDelete"), r.SubnetID, r.First, r.Last, r.Kind)
		return err
	})
}

// RangeList lists the IP ranges of a subnet by address.
func (s *Store) RangeList(ctx context.Context, subnet int64) ([]ipam.Range, error) {
	ranges, err := s.ranges(ctx, s.pool, subnet)
	return ranges, wrap(err, "list IP ranges")
}

func (s *Store) ranges(ctx context.Context, q querier, subnet int64) ([]ipam.Range, error) {
	return collect(ctx, q, s.sql.Get("RangeList"), func(r pgx.CollectableRow) (ipam.Range, error) {
		var out ipam.Range
		return out, r.Scan(&out.SubnetID, &out.First, &out.Last, &out.Kind)
	}, subnet)
}

// SubnetFind implements boot.Leases.
func (s *Store) SubnetFind(ctx context.Context, r boot.LeaseRequest) (ipam.Subnet, error) {
	n, err := s.subnetFind(ctx, s.pool, r)
	return n, leaseError(err, "find a client's subnet")
}

func (s *Store) subnetFind(ctx context.Context, q querier, r boot.LeaseRequest) (ipam.Subnet, error) {
	var here *netip.Prefix
	if r.Interface.IsValid() {
		masked := r.Interface.Masked()
		here = &masked
	}
	n, err := scanSubnet(q.QueryRow(ctx, s.sql.Get("SubnetFind"), address(r.Relay), here))
	if err == pgx.ErrNoRows {
		return n, ipam.ErrNoRange
	}
	return n, err
}

// subnetByID locks the subnet: who changes its ranges and who gives its
// addresses take turns.
func (s *Store) subnetByID(ctx context.Context, tx pgx.Tx, id int64) (ipam.Subnet, error) {
	n, err := scanSubnet(tx.QueryRow(ctx, s.sql.Get("SubnetByID"), id))
	if err == pgx.ErrNoRows {
		return n, fault.New(fault.NotFound, "no subnet with id %d", id)
	}
	return n, err
}

func scanSubnet(r pgx.Row) (ipam.Subnet, error) {
	var n ipam.Subnet
	var gateway *netip.Addr
	err := r.Scan(&n.ID, &n.CIDR, &gateway, &n.DNS, &n.NTP, &n.Domain)
	if gateway != nil {
		n.Gateway = *gateway
	}
	return n, err
}

// SubnetList lists all subnets by address.
func (s *Store) SubnetList(ctx context.Context) ([]ipam.Subnet, error) {
	subnets, err := collect(ctx, s.pool, s.sql.Get("SubnetList"), func(r pgx.CollectableRow) (ipam.Subnet, error) { return scanSubnet(r) })
	return subnets, wrap(err, "list subnets")
}
