package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
)

// MachineOverdue lists at most a hundred machines past their deadline, the
// longest overdue first.
func (s *Store) MachineOverdue(ctx context.Context) ([]machine.ID, error) {
	ids, err := collect(ctx, s.pool, s.sql.Get("MachineOverdue"), pgx.RowTo[machine.ID])
	return ids, wrap(err, "look for overdue machines")
}

// MachineTimeout fails a machine that is still past its deadline, with the
// reason that the table of states names. It takes the lease away from whoever
// has it, ends the operation and supersedes its orders. A machine that is not
// overdue any more stays as it is.
func (s *Store) MachineTimeout(ctx context.Context, id machine.ID) error {
	err := s.tx(ctx, "time out machine "+string(id), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		var overdue bool
		err = tx.QueryRow(ctx, s.sql.Get("MachineTimeoutLook"), id).Scan(&overdue)
		if err == pgx.ErrNoRows || err == nil && !overdue {
			return nil
		}
		if err != nil {
			return err
		}
		return s.timeOut(ctx, tx, m)
	})
	if err == nil {
		s.changed(id)
	}
	return err
}

func (s *Store) timeOut(ctx context.Context, tx pgx.Tx, m row) error {
	rule, _ := machine.RuleOf(m.state)
	reason := rule.TimeoutReason
	if reason == machine.ReasonNone {
		reason = machine.ReasonDeadline
	}
	operation, err := s.operationUnderWay(ctx, tx, m.operationID)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("%s lasted longer than %s", m.state, rule.Limit.Round(time.Second))
	if operation != nil && operation.Phase != "" {
		detail += "; it waited for: " + operation.Phase
	}
	if _, err := tx.Exec(ctx, s.sql.Get("MachineTimeout"), m.id, reason, detail); err != nil {
		return err
	}
	if err := s.operationStop(ctx, tx, m.operationID, machine.OperationFailed, reason, detail); err != nil {
		return err
	}
	return s.eventAdd(ctx, tx, m.id, machine.Event{
		Kind: machine.EventOperation, Text: fmt.Sprintf("%s failed: %s", m.state, machine.CauseOf(reason).Sentence),
		Detail: map[string]string{"reason": string(reason), "detail": detail},
	})
}

// Receipt is an erase receipt with the operation that it belongs to.
type Receipt struct {
	OperationID string
	machine.EraseReceipt
}

// ReceiptList lists the erase receipts of a machine, oldest first.
func (s *Store) ReceiptList(ctx context.Context, id machine.ID) ([]Receipt, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("ReceiptList"), func(r pgx.CollectableRow) (Receipt, error) {
		var e Receipt
		var started, ended *time.Time
		err := r.Scan(&e.OperationID, &e.DiskSerial, &e.DiskModel, &e.WWN, &e.SizeBytes, &e.Method, &started, &ended,
			&e.VerifiedBytes, &e.Verified, &e.DoesNotProve)
		e.StartedAt, e.EndedAt = instant(started), instant(ended)
		return e, err
	}, id)
	return list, wrap(err, "list erase receipts of machine %s", id)
}
