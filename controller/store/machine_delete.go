package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// MachineDelete forgets a machine. Its events, erase receipts and lines of audit
// stay, as does what its disks hold. A machine that is deployed or worked on
// needs force.
func (s *Store) MachineDelete(ctx context.Context, id machine.ID, force bool, actor string) error {
	err := s.tx(ctx, "delete machine "+string(id), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		rule, _ := machine.RuleOf(m.state)
		busy := m.outcome == machine.OutcomeRunning || m.state == machine.Deployed || rule.Passing
		if busy && !force {
			return stillWanted(m)
		}
		detail := map[string]string{"hostname": m.hostname, "state": string(m.state)}
		if _, err := s.auditAdd(ctx, tx, actor, "machine.delete", string(id), detail); err != nil {
			return err
		}
		if err := s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAudit, Text: "deleted by " + actor, Detail: detail}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql.Get("MachineDelete"), id)
		return err
	})
	if err == nil {
		s.changed(id)
	}
	return err
}

// stillWanted says what comes before a machine can be deleted.
func stillWanted(m row) error {
	first := "ingot machine release " + string(m.id) + " --erase"
	if m.outcome == machine.OutcomeRunning {
		first = "wait for its end, or cancel it"
	}
	return fault.New(fault.Precondition, "machine %s is %s: first %s; or forget it as it is: ingot machine delete %s --force", m.id, m.state, first, m.id)
}
