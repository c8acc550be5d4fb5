package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/metadata"
)

var _ metadata.Reports = (*Store)(nil)

// ReportAccept implements metadata.Reports: the proof of life of an installed
// system. The token is open while its operation is the machine's last one, or
// what it wrote is what is on the disk; a report after the operation failed is
// kept as a fact and changes no state.
func (s *Store) ReportAccept(ctx context.Context, token string, r metadata.Report) error {
	text, err := json.Marshal(storable(r))
	if err != nil {
		return fmt.Errorf("encode a first-boot report: %w", err)
	}
	sum := sha256.Sum256(text)
	err = s.tx(ctx, "store a first-boot report", func(tx pgx.Tx) error {
		var operation string
		var id machine.ID
		err := tx.QueryRow(ctx, s.sql.Get("FirstBootFind"), hash(token)).Scan(&operation, &id)
		if err == pgx.ErrNoRows || err == nil && string(id) != r.MachineID {
			return metadata.ErrUnknownToken
		}
		if err != nil {
			return err
		}
		if _, err := s.machineLock(ctx, tx, id); err != nil {
			return err
		}
		var had []byte
		err = tx.QueryRow(ctx, s.sql.Get("FirstBootHas"), operation).Scan(&had)
		if err == nil && !bytes.Equal(had, sum[:]) {
			return metadata.ErrUsed
		}
		if err != pgx.ErrNoRows {
			return err
		}
		return s.firstBoot(ctx, tx, id, operation, r, text, sum[:])
	})
	if err == nil {
		s.changed()
	}
	return err
}

// storable bounds the report's words and takes out what jsonb refuses.
func storable(r metadata.Report) metadata.Report {
	for _, word := range []*string{&r.MachineID, &r.InstanceID, &r.Hostname, &r.BootID, &r.Kernel, &r.Root} {
		*word = cut(*word, 1000)
	}
	for _, list := range []*[]string{&r.SSHHostKeys, &r.MACs} {
		kept := make([]string, 0, min(len(*list), nicsMost))
		for _, word := range (*list)[:min(len(*list), nicsMost)] {
			kept = append(kept, cut(word, 1000))
		}
		*list = kept
	}
	return r
}

func (s *Store) firstBoot(ctx context.Context, tx pgx.Tx, id machine.ID, operation string, r metadata.Report, text, sum []byte) error {
	var open bool
	var state machine.OperationState
	if err := tx.QueryRow(ctx, s.sql.Get("FirstBootOpen"), id, operation).Scan(&open, &state); err != nil {
		return err
	}
	list, err := s.operationLoad(ctx, tx, []string{operation})
	if err != nil {
		return err
	}
	o := list[operation]
	if !open || state == machine.OperationCancelled || o == nil || o.Wish.Deploy == nil || o.Wish.Deploy.InstanceID != r.InstanceID {
		return metadata.ErrUnknownToken
	}
	if _, err := tx.Exec(ctx, s.sql.Get("FirstBootInsert"), operation, id, text, sum); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("MachineNudge"), id); err != nil {
		return err
	}
	said := "the installed system reported"
	if state.Ended() && state != machine.OperationSucceeded {
		said += " after its deploy had " + string(state)
	}
	return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventBoot, Text: said, Detail: map[string]string{
		"kernel": r.Kernel, "hostname": r.Hostname, "root": r.Root, "operation": operation,
	}})
}
