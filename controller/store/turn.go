package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// MachineClaim leases machines that are due, at most limit of them, to a holder,
// and reads what a decision may look at. A machine whose holder went away is due
// when its lease ends.
func (s *Store) MachineClaim(ctx context.Context, holder string, leaseFor time.Duration, limit int) ([]machine.Snapshot, error) {
	var list []machine.Snapshot
	err := s.tx(ctx, "claim due machines", func(tx pgx.Tx) error {
		list = nil
		ids, err := collect(ctx, tx, s.sql.Get("TurnClaim"), pgx.RowTo[string], holder, leaseFor, limit)
		if err != nil || len(ids) == 0 {
			return err
		}
		// Who claims lives, also when the database was away and its heartbeat is
		// old: the agents that it holds must not look offline in these snapshots.
		if _, err := tx.Exec(ctx, s.sql.Get("ControllerHeartbeat"), holder); err != nil {
			return err
		}
		list, err = s.snapshots(ctx, tx, ids)
		return err
	})
	return list, err
}

// snapshots reads machines with their operations and orders.
func (s *Store) snapshots(ctx context.Context, tx pgx.Tx, ids []string) ([]machine.Snapshot, error) {
	var now time.Time
	if err := tx.QueryRow(ctx, s.sql.Get("ClockNow")).Scan(&now); err != nil {
		return nil, err
	}
	machines, err := s.machineLoad(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	var operationIDs []string
	for _, m := range machines {
		if m.OperationID != "" {
			operationIDs = append(operationIDs, m.OperationID)
		}
	}
	operations, err := s.operationLoad(ctx, tx, operationIDs)
	if err != nil {
		return nil, err
	}
	orders, err := s.ordersOf(ctx, tx, operationIDs)
	if err != nil {
		return nil, err
	}
	var list []machine.Snapshot
	for _, m := range machines {
		list = append(list, machine.Snapshot{
			Now: now.UTC(), Machine: m.Machine, Operation: operations[m.OperationID], Orders: orders[m.OperationID],
			BootSeenAt: m.bootSeenAt, BootSeenWhat: m.bootSeenWhat,
		})
	}
	return list, nil
}

// DecisionSave saves one decision and gives the machine's lease back, in one
// transaction. fault.Stale means that another holder has the machine, or that
// what the decision rests on (state, operation, boot) changed meanwhile; then
// nothing was saved and the machine is due again. A move that the table of
// states does not have is fault.Invalid.
func (s *Store) DecisionSave(ctx context.Context, snap machine.Snapshot, d machine.Decision) error {
	t := &turn{s: s, snap: snap, d: d}
	if err := t.legal(); err != nil {
		return err
	}
	err := s.tx(ctx, "save the decision on machine "+string(snap.Machine.ID), func(tx pgx.Tx) error {
		t.tx = tx
		return t.save(ctx)
	})
	if fault.Is(err, fault.Stale) {
		// The lease is ours to give back unless somebody has taken it.
		if _, dropErr := s.pool.Exec(ctx, s.sql.Get("TurnDrop"), snap.Machine.ID, snap.Machine.LeaseToken); dropErr != nil {
			s.log.Warn("give back a machine's lease", "machine_id", snap.Machine.ID, "err", dropErr)
		}
	}
	switch {
	case err == nil && t.concernsAgent():
		s.changed(snap.Machine.ID)
	case err == nil || fault.Is(err, fault.Stale):
		s.changed()
	}
	return err
}

// concernsAgent reports whether the decision changes what the holder of the
// agent's stream has to send.
func (t *turn) concernsAgent() bool {
	begins := t.working() && t.snap.Operation.State == machine.OperationPending
	return t.d.Wait == nil || begins || len(t.d.Orders)+len(t.d.Withdraw) > 0
}

// turn is one decision being saved.
type turn struct {
	s    *Store
	tx   pgx.Tx
	snap machine.Snapshot
	d    machine.Decision
	m    row
}

// legal checks the decision against the snapshot it was made from.
func (t *turn) legal() error {
	set := 0
	for _, is := range []bool{t.d.Wait != nil, t.d.Go != nil, t.d.End != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fault.New(fault.Invalid, "a decision has exactly one outcome, not %d", set)
	}
	from, to := t.snap.Machine.State, t.to()
	if t.d.Go != nil && from == to || from != to && !machine.MayFollow(from, to) {
		return fault.New(fault.Invalid, "machine %s: state %s may not follow %s", t.snap.Machine.ID, to, from)
	}
	if t.snap.Operation == nil && len(t.d.Orders)+len(t.d.Steps)+len(t.d.Receipts) > 0 {
		return fault.New(fault.Invalid, "machine %s: orders and steps need an operation", t.snap.Machine.ID)
	}
	return nil
}

func (t *turn) to() machine.State {
	switch {
	case t.d.Go != nil:
		return t.d.Go.To
	case t.d.End != nil:
		return t.d.End.To
	}
	return t.snap.Machine.State
}

func (t *turn) save(ctx context.Context) error {
	var err error
	if t.m, err = t.s.machineLock(ctx, t.tx, t.snap.Machine.ID); err != nil {
		return err
	}
	if err := t.current(); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		t.saveMachine, t.saveOperation, t.saveSteps, t.saveOrders, t.saveDeployment, t.saveReceipts, t.saveFreedom, t.saveRest,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// current refuses a decision whose ground has moved.
func (t *turn) current() error {
	had := t.snap.Machine
	switch {
	case t.m.leaseToken != had.LeaseToken || t.m.leaseHolder == "":
		return fault.New(fault.Stale, "machine %s: lease %d is not the current one (%d)", had.ID, had.LeaseToken, t.m.leaseToken)
	case t.m.state != had.State || t.m.outcome != had.Outcome:
		return fault.New(fault.Stale, "machine %s was %s (%s) and is %s (%s)", had.ID, had.State, had.Outcome, t.m.state, t.m.outcome)
	case t.m.operationID != had.OperationID || t.m.wishGeneration != had.WishGeneration:
		return fault.New(fault.Stale, "machine %s: something else was asked meanwhile", had.ID)
	case t.m.bootGeneration != had.BootGeneration:
		return staleBoot(had.ID, had.BootGeneration, t.m.bootGeneration)
	}
	return nil
}

// working reports whether there is an operation that goes on with this turn.
func (t *turn) working() bool { return t.snap.Operation != nil && !t.snap.Operation.State.Ended() }

// aside reports whether the operation is worked on beside the machine's state: a
// wish for power neither mends nor hides a failure that stands.
func (t *turn) aside() bool {
	return t.working() && t.snap.Operation.Kind == machine.OperationPower
}

// leaves reports whether the end of a wish for power leaves the machine's outcome
// alone. What the BMC failed of in a resting state was such a wish, so there the
// last one counts.
func (t *turn) leaves(e machine.End) bool {
	if !t.aside() || e.Outcome == machine.OutcomeCancelled {
		return t.aside()
	}
	failed := t.m.outcome == machine.OutcomeFailed
	rule, _ := machine.RuleOf(t.m.state)
	if failed && t.m.reason.OfBMC() && !rule.Passing {
		return false
	}
	return failed || succeeded(e)
}

// saveMachine writes state, outcome, reason and deadline.
func (t *turn) saveMachine(ctx context.Context) error {
	to := t.to()
	outcome, reason, detail := t.m.outcome, t.m.reason, t.m.detail
	begins := t.working() && t.snap.Operation.State == machine.OperationPending
	switch {
	case t.d.Go != nil, t.d.Wait != nil && t.working() && !t.aside():
		outcome, reason, detail = machine.OutcomeRunning, machine.ReasonNone, ""
	case t.d.End != nil && !t.leaves(*t.d.End):
		outcome, reason, detail = t.d.End.Outcome, t.d.End.Reason, t.d.End.Detail
	}
	rule, _ := machine.RuleOf(to)
	var limit *time.Duration // nil: no deadline
	if rule.Passing && outcome == machine.OutcomeRunning {
		limit = &rule.Limit
	}
	restart := to != t.m.state || begins && !t.aside() || t.m.deadline == nil
	var until *time.Time // nil: at once
	if t.d.Wait != nil {
		until = &t.d.Wait.Until
	}
	_, err := t.tx.Exec(ctx, t.s.sql.Get("TurnSaveMachine"), t.m.id, to, outcome, reason, cut(detail, 4000), limit, restart, t.d.Power, until)
	return err
}

// succeeded says whether an end is a good one.
func succeeded(e machine.End) bool {
	return e.Reason == machine.ReasonNone && e.Outcome != machine.OutcomeFailed && e.Outcome != machine.OutcomeCancelled
}

func (t *turn) saveOperation(ctx context.Context) error {
	if !t.working() {
		return nil
	}
	state, reason, detail := machine.OperationRunning, machine.ReasonNone, ""
	if t.d.End != nil {
		state, reason, detail = ended(*t.d.End), t.d.End.Reason, t.d.End.Detail
	}
	id := t.snap.Operation.ID
	_, err := t.tx.Exec(ctx, t.s.sql.Get("TurnSaveOperation"), id, state, cut(t.d.Phase, 200), reason, cut(detail, 4000), state.Ended())
	if err != nil || !state.Ended() {
		return err
	}
	_, err = t.tx.Exec(ctx, t.s.sql.Get("OperationSupersedeOrders"), id)
	return err
}

func ended(e machine.End) machine.OperationState {
	switch {
	case e.Outcome == machine.OutcomeCancelled:
		return machine.OperationCancelled
	case succeeded(e):
		return machine.OperationSucceeded
	}
	return machine.OperationFailed
}

func (t *turn) saveSteps(ctx context.Context) error {
	for _, r := range t.d.Steps {
		started, finished := r.StartedAt, r.FinishedAt
		if started.IsZero() {
			started = t.snap.Now
		}
		if r.State == machine.StepIntended {
			finished = time.Time{}
		} else if finished.IsZero() {
			finished = t.snap.Now
		}
		_, err := t.tx.Exec(ctx, t.s.sql.Get("TurnSaveStep"), t.snap.Operation.ID, r.Name, r.State, cut(r.Detail, 4000), started, when(finished))
		if err != nil {
			return fmt.Errorf("step %s: %w", r.Name, err)
		}
	}
	return nil
}
