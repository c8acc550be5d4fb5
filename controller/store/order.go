package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// OrderGet reads an order whatever became of it.
func (s *Store) OrderGet(ctx context.Context, id int64) (machine.Order, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("OrderByID"), s.scanOrder, id)
	if err != nil {
		return machine.Order{}, wrap(err, "read order %d", id)
	}
	if len(list) == 0 {
		return machine.Order{}, fault.New(fault.NotFound, "no order %d", id)
	}
	return list[0], nil
}

// OrderPendingForAgent lists what a boot of an agent is to do and has not
// finished, in order: also what was delivered to it before, for the agent runs
// an order once. Nothing is listed for a boot that is not the machine's current
// one, of a machine that is not approved, or of an operation that has ended.
func (s *Store) OrderPendingForAgent(ctx context.Context, id machine.ID, bootGeneration uint64) ([]machine.Order, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("OrderPendingForAgent"), s.scanOrder, id, bootGeneration)
	return list, wrap(err, "look for orders of machine %s", id)
}

// OrderDelivered is called before an order is sent to an agent. Only then may
// it be sent; fault.Stale means that it was superseded or has ended.
func (s *Store) OrderDelivered(ctx context.Context, id int64, bootGeneration uint64) error {
	return s.tx(ctx, fmt.Sprintf("mark order %d as delivered", id), func(tx pgx.Tx) error {
		if _, err := s.orderLock(ctx, tx, id); err != nil {
			return err
		}
		list, err := collect(ctx, tx, s.sql.Get("OrderByID"), s.scanOrder, id)
		if err != nil || len(list) == 0 {
			return err
		}
		o := list[0]
		if o.State == machine.OrderDelivered && o.BootGeneration == bootGeneration {
			return nil
		}
		if o.State != machine.OrderPending || o.BootGeneration != bootGeneration || o.Target != machine.TargetAgent {
			return fault.New(fault.Stale, "order %d is %s and of boot %d", id, o.State, o.BootGeneration)
		}
		if o.Job.Deploy != nil {
			if err := s.diskWritten(ctx, tx, o.MachineID, o.OperationID, o.Job.Deploy.Disk); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, s.sql.Get("OrderDelivered"), id)
		return err
	})
}

// OrderClaimForBMC takes the oldest order for a BMC that may be carried out, or
// one whose claim ran out; nil when there is none. Two orders of one BMC are
// never under way together. The order's DeliveredAt tells this claim from
// others: OrderFinish wants it back.
func (s *Store) OrderClaimForBMC(ctx context.Context, holder string, claimFor time.Duration) (*machine.Order, error) {
	var order *machine.Order
	err := s.tx(ctx, "claim an order for a BMC", func(tx pgx.Tx) error {
		order = nil
		var id int64
		err := tx.QueryRow(ctx, s.sql.Get("OrderClaimForBMC")).Scan(&id)
		if err == pgx.ErrNoRows {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("OrderClaim"), id, holder, claimFor); err != nil {
			return err
		}
		list, err := collect(ctx, tx, s.sql.Get("OrderByID"), s.scanOrder, id)
		if err == nil && len(list) == 1 {
			order = &list[0]
		}
		return err
	})
	return order, err
}

// OrderFinish saves what came of an order (State, Result, Reason, Detail) and
// wakes the machine. Finishing twice changes nothing. fault.Stale means that the
// order was superseded, claimed by somebody else since (BMC), or is of an older
// boot (agent); the result is not kept. What an agent reports about its orders
// comes by ReportApply; here a controller ends those that it cannot deliver.
func (s *Store) OrderFinish(ctx context.Context, o machine.Order) error {
	var refused error
	err := s.tx(ctx, fmt.Sprintf("finish order %d", o.ID), func(tx pgx.Tx) error {
		refused = nil
		l, err := s.orderLock(ctx, tx, o.ID)
		if err != nil {
			return err
		}
		switch {
		case l.target == machine.TargetBMC && (l.delivered == nil || !l.delivered.Equal(o.DeliveredAt)):
			return fault.New(fault.Stale, "order %d was claimed again since", o.ID)
		case l.target == machine.TargetAgent && l.bootGeneration != o.BootGeneration:
			return fault.New(fault.Stale, "order %d is of boot %d", o.ID, l.bootGeneration)
		case l.state == machine.OrderSuperseded:
			// The call has ended all the same: the BMC is free for the next order.
			refused = fault.New(fault.Stale, "order %d was superseded", o.ID)
			_, err := tx.Exec(ctx, s.sql.Get("OrderClaimEnd"), o.ID)
			return err
		case l.finished:
			return nil
		}
		return s.orderFinish(ctx, tx, l.machine, o)
	})
	if err == nil {
		s.changed()
		err = refused
	}
	return err
}

type orderRow struct {
	machine        machine.ID
	target         machine.Target
	state          machine.OrderState
	bootGeneration uint64
	delivered      *time.Time
	finished       bool
}

// orderLock locks an order after its machine, as everyone does.
func (s *Store) orderLock(ctx context.Context, tx pgx.Tx, id int64) (orderRow, error) {
	var l orderRow
	var owner machine.ID
	err := tx.QueryRow(ctx, s.sql.Get("OrderMachine"), id).Scan(&owner)
	if err == pgx.ErrNoRows {
		return l, fault.New(fault.NotFound, "no order %d", id)
	}
	if err != nil {
		return l, err
	}
	if _, err := s.machineLock(ctx, tx, owner); err != nil {
		return l, err
	}
	err = tx.QueryRow(ctx, s.sql.Get("OrderLockForFinish"), id).
		Scan(&l.machine, &l.target, &l.state, &l.bootGeneration, &l.delivered, &l.finished)
	return l, err
}

// orderFinish writes the result of an order that is under way and wakes its
// machine, which is locked.
func (s *Store) orderFinish(ctx context.Context, tx pgx.Tx, id machine.ID, o machine.Order) error {
	if o.State != machine.OrderSucceeded && o.State != machine.OrderFailed {
		return fault.New(fault.Invalid, "order %d cannot be finished as %q", o.ID, o.State)
	}
	if o.State == machine.OrderFailed && !machine.Known(o.Reason) || o.State == machine.OrderFailed && o.Reason == machine.ReasonNone {
		o.Detail, o.Reason = fmt.Sprintf("%s: %s", o.Reason, o.Detail), machine.ReasonUnknown
	}
	if o.State == machine.OrderSucceeded {
		o.Reason = machine.ReasonNone
	}
	plain, err := json.Marshal(o.Result)
	if err != nil { // a value that cannot be written down: it will never be
		return fault.Wrap(fault.Invalid, err, "result of order %d", o.ID)
	}
	sealed, err := s.ring.Seal(plain, resultPlace(o.ID))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("OrderFinish"), o.ID, o.State, sealed, o.Reason, cut(o.Detail, 4000)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql.Get("MachineNudge"), id)
	return err
}

func (s *Store) ordersOf(ctx context.Context, q querier, operations []string) (map[string][]machine.Order, error) {
	list, err := collect(ctx, q, s.sql.Get("OrderByOperation"), s.scanOrder, operations)
	out := map[string][]machine.Order{}
	for _, o := range list {
		out[o.OperationID] = append(out[o.OperationID], o)
	}
	return out, err
}

func (s *Store) scanOrder(r pgx.CollectableRow) (machine.Order, error) {
	var o machine.Order
	var job, result []byte
	var delivered, finished *time.Time
	err := r.Scan(&o.ID, &o.MachineID, &o.OperationID, &o.Step, &o.Attempt, &o.Target, &o.WishGeneration, &o.BootGeneration,
		&o.LeaseToken, &o.Cause, &o.State, &job, &result, &o.Reason, &o.Detail, &o.CreatedAt, &delivered, &finished)
	if err != nil {
		return o, err
	}
	o.CreatedAt, o.DeliveredAt, o.FinishedAt = o.CreatedAt.UTC(), instant(delivered), instant(finished)
	if job, err = s.open(job, jobPlace(o.ID)); err != nil {
		return o, err
	}
	if err := json.Unmarshal(job, &o.Job); err != nil || result == nil {
		return o, err
	}
	if result, err = s.open(result, resultPlace(o.ID)); err != nil {
		return o, err
	}
	return o, json.Unmarshal(result, &o.Result)
}
