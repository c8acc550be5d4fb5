package store

import (
	"context"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
)

// BMCSet says how a machine's BMC is reached. It replaces what was known, the
// pinned certificate too. A BMC that another machine has is fault.Exists.
func (s *Store) BMCSet(ctx context.Context, id machine.ID, a BMCAccess, actor string) error {
	err := s.tx(ctx, "set the BMC of machine "+string(id), func(tx pgx.Tx) error {
		if _, err := s.machineLock(ctx, tx, id); err != nil {
			return err
		}
		if err := s.bmcSet(ctx, tx, id, a); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("MachineNudge"), id); err != nil {
			return err
		}
		if _, err := s.auditAdd(ctx, tx, actor, "bmc.set", string(id), map[string]string{"url": a.URL, "user": a.User}); err != nil {
			return err
		}
		return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAudit, Text: "BMC set by " + actor})
	})
	if err == nil {
		s.changed()
	}
	return err
}

func (s *Store) bmcSet(ctx context.Context, tx pgx.Tx, id machine.ID, a BMCAccess) error {
	u, err := url.Parse(a.URL)
	if err != nil || a.URL == "" || len(a.URL) > 500 || u.User != nil {
		return fault.New(fault.Invalid, "BMC address: want ipmi://host, redfish://host or manual:, without user and password in it")
	}
	sealed, err := s.ring.Seal([]byte(a.Password.Reveal()), bmcPlace(id))
	if err != nil {
		return err
	}
	pin := strings.ToLower(strings.ReplaceAll(a.CertificateSHA256, ":", ""))
	_, err = tx.Exec(ctx, s.sql.Get("BMCSet"), id, a.URL, a.User, sealed, pin)
	return exists(err, "BMC %s belongs to another machine", a.URL)
}

func bmcPlace(id machine.ID) string { return "bmc.password/" + string(id) }

// BMCAccess gives what a power driver needs, with the password in the open, and
// what is known of the chip. fault.Precondition when no BMC is set.
func (s *Store) BMCAccess(ctx context.Context, id machine.ID) (BMCAccess, machine.BMC, error) {
	var a BMCAccess
	var b machine.BMC
	var sealed []byte
	err := s.pool.QueryRow(ctx, s.sql.Get("BMCAccess"), id).Scan(&b.URL, &b.User, &sealed, &b.CertificateSHA256,
		&b.Vendor, &b.Model, &b.Firmware, &b.LastError)
	if err == pgx.ErrNoRows {
		return a, b, fault.New(fault.Precondition, "no BMC is set for machine %s: ingot bmc set %s --url …", id, id)
	}
	if err != nil {
		return a, b, wrap(err, "read the BMC of machine %s", id)
	}
	password, err := s.open(sealed, bmcPlace(id))
	a = BMCAccess{URL: b.URL, User: b.User, Password: seal.Secret(password), CertificateSHA256: b.CertificateSHA256}
	return a, b, err
}

// BMCSeen records what a BMC showed: its model, the last error ("" for none), and
// its certificate, which is pinned if none was. Facts about another URL than the
// one in force change nothing.
func (s *Store) BMCSeen(ctx context.Context, id machine.ID, b machine.BMC) error {
	pin := strings.ToLower(strings.ReplaceAll(b.CertificateSHA256, ":", ""))
	_, err := s.pool.Exec(ctx, s.sql.Get("BMCSeen"), id, cut(pin, 64), cut(b.Vendor, 200), cut(b.Model, 200),
		cut(b.Firmware, 200), cut(b.LastError, 2000), b.URL)
	return wrap(err, "record the BMC of machine %s", id)
}

// PowerSet records what a BMC said about a machine's power outside an order.
func (s *Store) PowerSet(ctx context.Context, id machine.ID, p machine.PowerState) error {
	_, err := s.pool.Exec(ctx, s.sql.Get("PowerSet"), id, p)
	return wrap(err, "record the power of machine %s", id)
}
