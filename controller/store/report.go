package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// collectionMost is the limit on a collection in bytes (4 MiB).
const collectionMost = 4 << 20

// reportEvents is how many events one report may carry.
const reportEvents = 1000

// Report is one thing that an agent must not lose. Any of its parts may be set.
type Report struct {
	At time.Time // the agent's clock; zero: now
	// OrderID is what the report belongs to, 0 for none.
	OrderID    int64
	Events     []machine.Event
	Collection *Collection
	Test       *TestResult
	// Result ends OrderID.
	Result *OrderResult
}

// Collection is one complete inventory: as it was sent, and what of it is kept
// as rows.
type Collection struct {
	Payload []byte // at most 4 MiB
	Facts   inventory.Facts
}

// TestResult is what one hardware test found.
type TestResult struct {
	OrderID        int64
	BootGeneration uint64 // not read from a report
	Name           string
	Subject        string // a serial, a MAC, or "memory"
	Outcome        string // passed, failed or skipped
	Detail         string
	Elapsed        time.Duration
	At             time.Time
}

// OrderResult is what came of an order.
type OrderResult struct {
	State  machine.OrderState // succeeded or failed
	Reason machine.Reason
	Detail string
	Result machine.Result
}

// ReportApply stores a report of a boot of an agent, once: everything in it and
// the advance of the sequence are one transaction. It returns the highest
// sequence that is stored, which is what to acknowledge; an older report or the
// same again changes nothing. fault.Stale: the boot is not the machine's current
// one. fault.Conflict: a report is missing before this one. A result for an
// order that was superseded or has ended is noted in the history and no more. A
// machine that says too much has its report acknowledged and not kept, but for
// the result of an order (afford).
func (s *Store) ReportApply(ctx context.Context, id machine.ID, bootGeneration, sequence uint64, r Report) (stored uint64, err error) {
	if r.Collection != nil && len(r.Collection.Payload) > collectionMost {
		return 0, fault.New(fault.Invalid, "a collection has %d bytes, at most %d (4 MiB) are taken", len(r.Collection.Payload), collectionMost)
	}
	if len(r.Events) > reportEvents {
		return 0, fault.New(fault.Invalid, "a report may carry %d events, not %d", reportEvents, len(r.Events))
	}
	if when(r.At) == nil {
		r.At = time.Now()
	}
	applied := false
	err = s.tx(ctx, fmt.Sprintf("store report %d of machine %s", sequence, id), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		stored, applied = m.reportSequence, false
		switch {
		case m.bootGeneration != bootGeneration:
			return staleBoot(id, bootGeneration, m.bootGeneration)
		case sequence <= m.reportSequence:
			return nil
		case sequence > m.reportSequence+1:
			return fault.New(fault.Conflict, "report %d of machine %s came and %d is missing", sequence, id, m.reportSequence+1)
		}
		if _, err := tx.Exec(ctx, s.sql.Get("ReportAdvance"), id, sequence); err != nil {
			return err
		}
		stored, applied = sequence, true
		return s.reportParts(ctx, tx, m, r)
	})
	if err != nil {
		return 0, err
	}
	if applied {
		s.changed()
	}
	return stored, nil
}

func (s *Store) reportParts(ctx context.Context, tx pgx.Tx, m row, r Report) error {
	if r.Result != nil {
		if err := s.resultStore(ctx, tx, m, r); err != nil {
			return fmt.Errorf("result of order %d: %w", r.OrderID, err)
		}
	}
	if fits, err := s.afford(ctx, tx, m.id, r.lines()); err != nil || !fits {
		return err
	}
	if c := r.Collection; c != nil {
		if err := s.collectionStore(ctx, tx, m, r.At, *c); err != nil {
			return fmt.Errorf("collection: %w", err)
		}
	}
	if t := r.Test; t != nil {
		if err := s.testStore(ctx, tx, m, r, *t); err != nil {
			return fmt.Errorf("test result: %w", err)
		}
	}
	return s.eventAdd(ctx, tx, m.id, r.Events...)
}

// lines is what a report costs of what a machine may say.
func (r Report) lines() int {
	n := len(r.Events)
	if r.Test != nil {
		n += 2 // a failure is an event too
	}
	if r.Collection != nil {
		n += collectionLines
	}
	return n
}

func (s *Store) testStore(ctx context.Context, tx pgx.Tx, m row, r Report, t TestResult) error {
	if t.Outcome != "passed" && t.Outcome != "failed" && t.Outcome != "skipped" {
		return fault.New(fault.Invalid, "a test's outcome is passed, failed or skipped, not %q", cut(t.Outcome, 40))
	}
	at := t.At
	if when(at) == nil {
		at = r.At
	}
	var order *int64
	if r.OrderID != 0 {
		order = &r.OrderID
	}
	_, err := tx.Exec(ctx, s.sql.Get("TestInsert"), m.id, order, m.bootGeneration, cut(t.Name, 100), cut(t.Subject, 200), t.Outcome,
		cut(t.Detail, 4000), int64(t.Elapsed), at)
	if err != nil || t.Outcome != "failed" {
		return err
	}
	return s.eventAdd(ctx, tx, m.id, machine.Event{
		Kind: machine.EventTest, Text: fmt.Sprintf("test %s of %s failed: %s", t.Name, t.Subject, t.Detail),
	})
}

// resultStore ends the order, if it may still be ended by this boot.
func (s *Store) resultStore(ctx context.Context, tx pgx.Tx, m row, r Report) error {
	l, err := s.orderLock(ctx, tx, r.OrderID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	open := err == nil && l.machine == m.id && l.target == machine.TargetAgent && l.bootGeneration == m.bootGeneration &&
		(l.state == machine.OrderDelivered || l.state == machine.OrderPending)
	if !open {
		return s.eventAfford(ctx, tx, m.id, machine.Event{
			Kind: machine.EventAgent, Text: fmt.Sprintf("the agent sent a result for order %d, which is not under way; it changes nothing", r.OrderID),
		})
	}
	if d := r.Result.Result.Deploy; d != nil {
		// Also a disk that the agent was not told to write, and after a failure.
		if err := s.diskWritten(ctx, tx, m.id, m.operationID, d.DiskSerial); err != nil {
			return err
		}
		if r.Result.State == machine.OrderSucceeded {
			if err := s.disksInReach(ctx, tx, m.id, m.operationID); err != nil {
				return err
			}
		}
	}
	o := machine.Order{ID: r.OrderID, State: r.Result.State, Reason: r.Result.Reason, Detail: r.Result.Detail, Result: r.Result.Result}
	return s.orderFinish(ctx, tx, m.id, o)
}

// TestList lists a machine's newest test results, the newest first.
func (s *Store) TestList(ctx context.Context, id machine.ID, size int) ([]TestResult, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("TestList"), func(r pgx.CollectableRow) (TestResult, error) {
		var t TestResult
		var order *int64
		err := r.Scan(&order, &t.BootGeneration, &t.Name, &t.Subject, &t.Outcome, &t.Detail, &t.Elapsed, &t.At)
		if order != nil {
			t.OrderID = *order
		}
		t.At = t.At.UTC()
		return t, err
	}, id, pageSize(size))
	return list, wrap(err, "list test results of machine %s", id)
}

// CollectionGet gives a machine's newest collection as the agent sent it, and
// when. fault.NotFound when it has sent none.
func (s *Store) CollectionGet(ctx context.Context, id machine.ID) (payload []byte, at time.Time, err error) {
	err = s.pool.QueryRow(ctx, s.sql.Get("CollectionNewest"), id).Scan(&payload, &at)
	if err == pgx.ErrNoRows {
		return nil, at, fault.New(fault.NotFound, "machine %s has sent no inventory yet: ingot machine commission %s", id, id)
	}
	return payload, at.UTC(), wrap(err, "read the collection of machine %s", id)
}
