package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// offerFor is how long an offered address is held for its client.
const offerFor = time.Minute

// LeaseOffer implements boot.Leases.
func (s *Store) LeaseOffer(ctx context.Context, r boot.LeaseRequest) (ipam.Lease, error) {
	return s.leaseGive(ctx, r, func(t *leaseTurn) (netip.Addr, error) { return t.choice.Address() }, true)
}

// LeaseCommit implements boot.Leases.
func (s *Store) LeaseCommit(ctx context.Context, r boot.LeaseRequest) (ipam.Lease, error) {
	return s.leaseGive(ctx, r, func(t *leaseTurn) (netip.Addr, error) { return r.Requested, t.choice.Check(r.Requested) }, false)
}

// leaseTurn is one client's turn with a subnet, which is locked.
type leaseTurn struct {
	s      *Store
	tx     pgx.Tx
	r      boot.LeaseRequest
	now    time.Time
	choice ipam.Choice
	held   *held // what the client has or had here, nil for nothing
	broken error // of a question that Choice asked
	taken  map[netip.Addr]bool
	asked  int
}

// held is a client's row.
type held struct {
	id      int64
	address netip.Addr
	stage   ipam.Stage
	state   string
	expires time.Time
	live    bool
}

// leaseGive takes a turn: choose or check the address, give it, commit.
func (s *Store) leaseGive(ctx context.Context, r boot.LeaseRequest, choose func(*leaseTurn) (netip.Addr, error), offer bool) (ipam.Lease, error) {
	if key := r.Client.Key(); key == "" || len(key) > 258 {
		return ipam.Lease{}, fmt.Errorf("lease an address: %w", ipam.ErrNoRange) // it cannot be told from others
	}
	var lease ipam.Lease
	err := s.tx(ctx, "lease an address to "+r.Client.String(), func(tx pgx.Tx) error {
		t, err := s.leaseTurn(ctx, tx, r)
		if err != nil {
			return err
		}
		addr, err := choose(t)
		if t.broken != nil {
			return t.broken
		}
		if err != nil {
			return err
		}
		lease, err = t.give(ctx, addr, offer)
		return err
	})
	return lease, leaseError(err, "lease an address")
}

// leaseError lets the errors of ipam through, and marks the rest as the
// database's absence.
func leaseError(err error, what string) error {
	if err == nil || errors.Is(err, ipam.ErrNoRange) || errors.Is(err, ipam.ErrExhausted) || errors.Is(err, ipam.ErrTaken) {
		return err
	}
	return fmt.Errorf("%s: %w: %w", what, boot.ErrUnavailable, err)
}

func (s *Store) leaseTurn(ctx context.Context, tx pgx.Tx, r boot.LeaseRequest) (*leaseTurn, error) {
	n, err := s.subnetFind(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	if n, err = s.subnetByID(ctx, tx, n.ID); err != nil {
		return nil, err
	}
	ranges, err := s.ranges(ctx, tx, n.ID)
	if err != nil {
		return nil, err
	}
	t := &leaseTurn{s: s, tx: tx, r: r}
	if err := tx.QueryRow(ctx, s.sql.Get("ClockNow")).Scan(&t.now); err != nil {
		return nil, err
	}
	var h held
	err = tx.QueryRow(ctx, s.sql.Get("LeaseOfClient"), n.ID, []byte(r.Client.Key())).
		Scan(&h.id, &h.address, &h.stage, &h.state, &h.expires, &h.live)
	switch {
	case err == nil:
		t.held = &h
	case err != pgx.ErrNoRows:
		return nil, err
	}
	t.choice = ipam.Choice{
		Subnet: n, Ranges: ranges, Client: r.Client, Requested: r.Requested, Avoid: []netip.Addr{r.Server, r.Relay},
		Taken: func(a netip.Addr) bool { return t.isTaken(ctx, a) },
	}
	if t.held != nil {
		t.choice.Previous = t.held.address
	}
	return t, nil
}

// isTaken asks for single addresses first, for nearly always the client gets
// what it had; then it reads all that are taken at once.
func (t *leaseTurn) isTaken(ctx context.Context, a netip.Addr) bool {
	if t.broken != nil {
		return true
	}
	key := []byte(t.r.Client.Key())
	if t.asked++; t.asked <= 3 {
		var taken bool
		t.broken = t.tx.QueryRow(ctx, t.s.sql.Get("LeaseTaken"), t.choice.Subnet.ID, a, key).Scan(&taken)
		return taken || t.broken != nil
	}
	if t.taken == nil {
		var all []netip.Addr
		all, t.broken = collect(ctx, t.tx, t.s.sql.Get("LeaseTakenAll"), pgx.RowTo[netip.Addr], t.choice.Subnet.ID, key)
		t.taken = make(map[netip.Addr]bool, len(all))
		for _, x := range all {
			t.taken[x] = true
		}
	}
	return t.taken[a] || t.broken != nil
}

// give writes the row. The expiry is never earlier than what the client was
// told, except for a boot stage after an installed system.
func (t *leaseTurn) give(ctx context.Context, addr netip.Addr, offer bool) (ipam.Lease, error) {
	key, n := []byte(t.r.Client.Key()), t.choice.Subnet
	lease := ipam.Lease{Address: addr, Client: t.r.Client, Subnet: n, Stage: t.r.Stage}
	state, expires := "active", t.now.Add(t.r.Duration)
	same := t.held != nil && t.held.live && t.held.state == "active" && t.held.address == addr
	if offer {
		state, expires = "offered", t.now.Add(offerFor)
		if same { // an offer takes nothing away
			state, expires, lease.Stage = "active", t.held.expires, t.held.stage
		}
	} else if shorten := t.r.Stage == ipam.StageBoot && same && t.held.stage == ipam.StageInstalled; same && !shorten && t.held.expires.After(expires) {
		expires = t.held.expires
	}
	for _, name := range []string{"LeaseFreeQuarantine", "LeaseFreeAddress"} {
		args := []any{n.ID, addr}
		if name == "LeaseFreeAddress" {
			args = append(args, key)
		}
		if _, err := t.tx.Exec(ctx, t.s.sql.Get(name), args...); err != nil {
			return lease, err
		}
	}
	_, err := t.tx.Exec(ctx, t.s.sql.Get("LeasePut"), n.ID, key, []byte(t.r.Client.HardwareAddr), t.r.Client.ClientID, addr,
		lease.Stage, state, expires, cut(t.r.Hostname, 255), cut(t.r.VendorClass, 255))
	if err != nil {
		if constraint(err) == "lease_address" {
			return lease, ipam.ErrTaken
		}
		return lease, err
	}
	if !offer {
		lease.Expires = expires.UTC()
	}
	lease.Hostname, err = t.s.leaseHostname(ctx, t.tx, t.r.Client.HardwareAddr)
	return lease, err
}

// leaseHostname is the name of the machine that has the NIC, if it is one.
func (s *Store) leaseHostname(ctx context.Context, q querier, mac net.HardwareAddr) (string, error) {
	if len(mac) == 0 {
		return "", nil
	}
	names, err := collect(ctx, q, s.sql.Get("LeaseHostname"), pgx.RowTo[string], []byte(mac))
	if err != nil || len(names) != 1 {
		return "", err
	}
	return names[0], nil
}

// LeaseRelease implements boot.Leases.
func (s *Store) LeaseRelease(ctx context.Context, c ipam.Client, a netip.Addr) error {
	_, err := s.pool.Exec(ctx, s.sql.Get("LeaseRelease"), []byte(c.Key()), address(a))
	return leaseError(err, "release a lease")
}

// LeaseDecline implements boot.Leases; the quarantine lasts ten minutes.
func (s *Store) LeaseDecline(ctx context.Context, c ipam.Client, a netip.Addr) error {
	_, err := s.pool.Exec(ctx, s.sql.Get("LeaseDecline"), []byte(c.Key()), address(a))
	return leaseError(err, "put an address in quarantine")
}

// LeaseRecord is a lease as operators see it.
type LeaseRecord struct {
	ID        int64
	SubnetID  int64
	Client    ipam.Client
	Address   netip.Addr
	Stage     ipam.Stage
	State     string // active, released or declined
	Active    bool   // active and not expired
	ExpiresAt time.Time
	Hostname  string // as the client sent it
	MachineID machine.ID
}

// LeaseList lists leases in the order in which they were first given. The token
// is empty after the last page.
func (s *Store) LeaseList(ctx context.Context, size int, token string) ([]LeaseRecord, string, error) {
	after, err := parsePage(token)
	if err != nil {
		return nil, "", err
	}
	size = pageSize(size)
	list, err := collect(ctx, s.pool, s.sql.Get("LeaseList"), func(r pgx.CollectableRow) (LeaseRecord, error) {
		var l LeaseRecord
		var mac []byte
		err := r.Scan(&l.ID, &l.SubnetID, &mac, &l.Client.ClientID, &l.Address, &l.Stage, &l.State, &l.ExpiresAt, &l.Hostname,
			&l.Active, &l.MachineID)
		l.Client.HardwareAddr, l.ExpiresAt = mac, l.ExpiresAt.UTC()
		return l, err
	}, after, size+1)
	if err != nil {
		return nil, "", wrap(err, "list leases")
	}
	next := ""
	if len(list) > size {
		list = list[:size]
		next = strconv.FormatInt(list[size-1].ID, 10)
	}
	return list, next, nil
}

func parsePage(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(token, 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "%q is no page token", cut(token, 40))
	}
	return n, nil
}
