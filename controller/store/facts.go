package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

const disksMost = 1024

// collectionStore keeps the collection whole and brings the rows up to date.
func (s *Store) collectionStore(ctx context.Context, tx pgx.Tx, m row, at time.Time, c Collection) error {
	f := c.Facts
	if len(f.NICs) > nicsMost || len(f.Disks) > disksMost {
		return fault.New(fault.Invalid, "a collection may name %d NICs and %d disks, not %d and %d", nicsMost, disksMost, len(f.NICs), len(f.Disks))
	}
	if _, err := tx.Exec(ctx, s.sql.Get("CollectionInsert"), m.id, m.bootGeneration, at, append([]byte{}, c.Payload...)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("CollectionTrim"), m.id); err != nil {
		return err
	}
	uuid, err := parseUUID(f.UUID)
	if err != nil {
		uuid = nil // firmware writes what it likes
	}
	_, err = tx.Exec(ctx, s.sql.Get("FactsSet"), m.id, cut(f.Architecture, 32), f.BootMode, uuid, cut(f.Serial, 200),
		cut(f.Vendor, 200), cut(f.Product, 200), whole(f.MemoryBytes), f.CPUThreads)
	if err != nil {
		return err
	}
	if err := s.factsNICs(ctx, tx, m, f.NICs); err != nil {
		return err
	}
	if err := s.factsDisks(ctx, tx, m, f.Disks); err != nil {
		return err
	}
	if err := s.disksFound(ctx, tx, m); err != nil {
		return err
	}
	warnings := f.Warnings
	if uuid != nil {
		warnings = append(warnings, conflicts(m, Identity{uuid: uuid, Serial: f.Serial})...)
	}
	return s.warningsAdd(ctx, tx, m.id, warnings)
}

// factsNICs reconciles by permanent address.
func (s *Store) factsNICs(ctx context.Context, tx pgx.Tx, m row, nics []machine.NIC) error {
	if _, err := tx.Exec(ctx, s.sql.Get("FactsNICsAbsent"), m.id); err != nil {
		return err
	}
	for _, n := range nics {
		if len(n.MAC) < 6 || len(n.MAC) > 20 {
			continue // without an address it is not a NIC that we can name
		}
		repeats := n.LocallyAdministered || local(n.MAC)
		mine, err := s.nicTake(ctx, tx, m.id, n.MAC, repeats)
		if err != nil {
			return err
		}
		if !mine {
			continue
		}
		_, err = tx.Exec(ctx, s.sql.Get("FactsNICPut"), m.id, m.siteID, []byte(n.MAC), sixBytes(n.MAC), repeats,
			cut(n.Name, 64), whole(n.SpeedBitsPerSecond), n.LinkUp, cut(n.Driver, 64), n.BootNIC, cut(n.Neighbour, 500))
		if err != nil {
			return fmt.Errorf("NIC %s: %w", n.MAC, err)
		}
	}
	return nil
}

// diskRow is what a disk is recognised by.
type diskRow struct {
	id                  int64
	serial, wwn, byPath string
	used                bool
}

// factsDisks reconciles by serial, then WWN, then path: so a disk keeps its id
// while it can be recognised at all.
func (s *Store) factsDisks(ctx context.Context, tx pgx.Tx, m row, disks []machine.Disk) error {
	had, err := collect(ctx, tx, s.sql.Get("FactsDisks"), func(r pgx.CollectableRow) (*diskRow, error) {
		var d diskRow
		return &d, r.Scan(&d.id, &d.serial, &d.wwn, &d.byPath)
	}, m.id)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("FactsDisksAbsent"), m.id); err != nil {
		return err
	}
	for _, d := range disks {
		switch d.Kind {
		case machine.DiskNVMe, machine.DiskSSD, machine.DiskVirtual, machine.DiskHDD:
		default:
			d.Kind = machine.DiskUnknown
		}
		name, id := "FactsDiskInsert", any(m.id)
		if old := recognise(had, d); old != nil {
			old.used = true
			name, id = "FactsDiskUpdate", old.id
		}
		_, err := tx.Exec(ctx, s.sql.Get(name), id, cut(d.Name, 64), cut(d.Serial, 200), cut(d.WWN, 200), cut(d.ByPath, 500),
			cut(d.Model, 200), whole(d.SizeBytes), min(d.SectorBytes, math.MaxInt32), d.Kind, cut(d.Health, 64), d.ReadOnly, d.Removable)
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	return nil
}

func recognise(had []*diskRow, d machine.Disk) *diskRow {
	same := []func(*diskRow) bool{
		func(o *diskRow) bool {
			return d.Serial != "" && o.serial == cut(d.Serial, 200) && (d.WWN == "" || o.wwn == "" || o.wwn == cut(d.WWN, 200))
		},
		func(o *diskRow) bool {
			return d.Serial == "" && o.serial == "" && d.WWN != "" && o.wwn == cut(d.WWN, 200)
		},
		func(o *diskRow) bool {
			return d.Serial == "" && d.WWN == "" && o.serial == "" && o.wwn == "" && d.ByPath != "" && o.byPath == cut(d.ByPath, 500)
		},
	}
	for _, is := range same {
		for _, o := range had {
			if !o.used && is(o) {
				return o
			}
		}
	}
	return nil
}
