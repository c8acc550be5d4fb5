package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// diskWritten is called before an order that writes an image is sent: from then
// on the disk may hold it.
func (s *Store) diskWritten(ctx context.Context, tx pgx.Tx, id machine.ID, operation, disk string) error {
	_, err := tx.Exec(ctx, s.sql.Get("DiskDataWrite"), id, operation, disk)
	return err
}

// disksInReach is called before an installed system may run: it can write to
// every disk that a release would erase.
func (s *Store) disksInReach(ctx context.Context, tx pgx.Tx, id machine.ID, operation string) error {
	_, err := tx.Exec(ctx, s.sql.Get("DiskDataReach"), id, operation)
	return err
}

// disksFound is called when an inventory was stored: a disk that holds what was
// written in another machine is this one's to erase now. What a machine says
// that nobody approved takes nothing from others.
func (s *Store) disksFound(ctx context.Context, tx pgx.Tx, m row) error {
	if !m.approved {
		return nil
	}
	type find struct{ from, disk, operation string }
	finds, err := collect(ctx, tx, s.sql.Get("DiskDataFound"), func(r pgx.CollectableRow) (f find, err error) {
		return f, r.Scan(&f.from, &f.disk, &f.operation)
	}, m.id)
	if err != nil {
		return err
	}
	for _, f := range finds {
		err := s.eventAdd(ctx, tx, m.id, machine.Event{
			Kind: machine.EventWarning, Text: fmt.Sprintf("disk %s holds data: it was written in machine %s by %s", f.disk, f.from, f.operation),
		})
		if err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, s.sql.Get("MachineNudge"), m.id)
	return err
}

// disksVouched takes an operator's word that nothing is left on these disks. One
// that was not said to hold anything is refused: the word would mean another disk.
func (s *Store) disksVouched(ctx context.Context, tx pgx.Tx, id machine.ID, disks []string, actor string) error {
	for _, name := range disks {
		tag, err := tx.Exec(ctx, s.sql.Get("DiskDataVouch"), id, name)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fault.New(fault.Precondition, "disk %q is none of those of machine %s that hold data: ingot machine show %s", cut(name, 80), id, id)
		}
		if _, err := s.auditAdd(ctx, tx, actor, "disk.vouch", string(id), map[string]string{"disk": cut(name, 200)}); err != nil {
			return err
		}
		err = s.eventAdd(ctx, tx, id, machine.Event{
			Kind: machine.EventAudit, Text: fmt.Sprintf("%s vouches that nothing of an owner's is left on disk %s", actor, cut(name, 200)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deployableDisks refuses an image for a machine with somebody else's data: on
// any disk while it is free, and else on one that came out of another machine.
func (s *Store) deployableDisks(ctx context.Context, tx pgx.Tx, m row) error {
	free := m.state == machine.Ready || m.state == machine.Allocated
	var disk, from, operation string
	err := tx.QueryRow(ctx, s.sql.Get("DiskDataOfOthers"), m.id, free).Scan(&disk, &from, &operation)
	if err == pgx.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Precondition, "disk %s of machine %s holds data that %s wrote in machine %s; have it erased first: ingot machine release %s --erase",
		disk, m.id, operation, from, m.id)
}

// saveFreedom makes sure that no decision gives away a machine with an owner's
// data, whatever the engine believes.
func (t *turn) saveFreedom(ctx context.Context) error {
	to := t.to()
	if to == t.snap.Machine.State || to != machine.Ready && to != machine.Allocated {
		return nil
	}
	var left bool
	if err := t.tx.QueryRow(ctx, t.s.sql.Get("DiskDataLeft"), t.m.id).Scan(&left); err != nil {
		return err
	}
	if left {
		return fault.New(fault.Invalid, "machine %s cannot be %s: a disk that holds data was not erased", t.m.id, to)
	}
	return nil
}

// loadDiskData adds what disks hold, and the disks that went missing with it.
func (s *Store) loadDiskData(ctx context.Context, q querier, ids []string, into map[machine.ID]*machine.Machine) error {
	_, err := collect(ctx, q, s.sql.Get("MachineLoadDiskData"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var disk int64
		var data machine.DiskData
		err := r.Scan(&id, &disk, &data.Since, &data.OperationID, &data.MachineID, &data.Written)
		if m := into[id]; m != nil {
			for i := range m.Disks {
				if m.Disks[i].ID == disk {
					m.Disks[i].Data = &data
				}
			}
		}
		return struct{}{}, err
	}, ids)
	if err != nil {
		return err
	}
	_, err = collect(ctx, q, s.sql.Get("MachineLoadLostDisks"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var d machine.LostDisk
		err := r.Scan(&id, &d.Serial, &d.WWN, &d.Model, &d.Data.Since, &d.Data.OperationID, &d.Data.MachineID, &d.Data.Written)
		if m := into[id]; m != nil {
			m.LostDisks = append(m.LostDisks, d)
		}
		return struct{}{}, err
	}, ids)
	return err
}

// dataWarning tells what keeps a machine from being given away, where that is
// news: not while it is somebody's or is being worked on.
func dataWarning(m machine.Machine) []machine.Warning {
	if m.State == machine.Deployed || m.Outcome == machine.OutcomeRunning {
		return nil
	}
	reason, detail := m.NotFree(nil)
	if reason == machine.ReasonNone {
		return nil
	}
	return []machine.Warning{{Code: string(reason), Text: cut(detail, 1000)}}
}
