package store

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// pruneLook is how often a controller looks whether it is time; one of them
	// prunes, once an hour.
	pruneLook = 5 * time.Minute
	// pruneBatch bounds the rows of one transaction, so that none holds its locks
	// for long; prunePause lets others in between.
	pruneBatch = 1000
	prunePause = 20 * time.Millisecond
	// eventsAlways are never pruned of a machine that is there: they tell how it
	// stands, and readers find by them that something before is gone.
	eventsAlways = 100
	// sessionDays and certificateDays are how long what has expired is kept, for
	// a person who looks into an enrolment.
	sessionDays, certificateDays = 1, 7
)

// runPrune prunes when it is time and no other controller does.
func (s *Store) runPrune(ctx context.Context) {
	for {
		rest(ctx, pruneLook/2+rand.N(pruneLook)) // controllers that started together do not ask together
		if ctx.Err() != nil {
			return
		}
		if _, err := s.Prune(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("forget what is older than is kept", "err", err)
		}
	}
}

// Prune forgets what is older than is kept, if no other controller is at it or
// did so within the hour. It returns how many rows went.
func (s *Store) Prune(ctx context.Context) (int64, error) {
	holder := randomWord(12)
	tag, err := s.pool.Exec(ctx, s.sql.Get("PruneClaim"), holder)
	if err != nil || tag.RowsAffected() == 0 {
		return 0, wrap(err, "claim the pruning")
	}
	keep, err := s.retention(ctx)
	if err != nil {
		return 0, err
	}
	p := &pruner{s: s, holder: holder, keep: keep}
	if err := p.run(ctx); err != nil {
		return p.gone, err // the claim runs out, and somebody goes on
	}
	if p.gone > 0 {
		s.log.Info("forgot what is older than is kept", "rows", p.gone)
	}
	_, err = s.pool.Exec(ctx, s.sql.Get("PruneDone"), holder)
	return p.gone, wrap(err, "end the pruning")
}

// pruner is one turn of pruning.
type pruner struct {
	s      *Store
	holder string
	keep   Retention
	gone   int64
}

func (p *pruner) run(ctx context.Context) error {
	if err := p.histories(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		age  *time.Duration
	}{
		// Orders before the audit lines that they refer to.
		{"PruneOrders", days(p.keep.OrderDays)}, {"PruneOperations", days(p.keep.OperationDays)},
		{"PruneSessions", days(sessionDays)}, {"PruneCertificates", days(certificateDays)},
		{"PruneLeases", days(p.keep.LeaseDays)}, {"PruneAudit", days(p.keep.AuditDays)},
	} {
		if part.age == nil {
			continue
		}
		err := p.batches(ctx, part.name, func() (int64, error) {
			tag, err := p.s.pool.Exec(ctx, p.s.sql.Get(part.name), pruneBatch, *part.age)
			return tag.RowsAffected(), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// histories prunes events and test results, one machine after the other.
func (p *pruner) histories(ctx context.Context) error {
	after := ""
	for {
		ids, err := collect(ctx, p.s.pool, p.s.sql.Get("PruneMachines"), pgx.RowTo[string], after, pruneBatch)
		if err != nil || len(ids) == 0 {
			return wrap(err, "list machines with a history")
		}
		for _, id := range ids {
			err := p.batches(ctx, "events of machine "+id, func() (n int64, err error) {
				row := p.s.pool.QueryRow(ctx, p.s.sql.Get("PruneEvents"), id, pruneBatch, days(p.keep.EventDays), p.keep.EventsPerMachine, eventsAlways)
				return n, row.Scan(&n)
			})
			if err != nil {
				return err
			}
			err = p.batches(ctx, "test results of machine "+id, func() (int64, error) {
				tag, err := p.s.pool.Exec(ctx, p.s.sql.Get("PruneTests"), id, pruneBatch, days(p.keep.TestDays), p.keep.TestsPerMachine)
				return tag.RowsAffected(), err
			})
			if err != nil {
				return err
			}
		}
		after = ids[len(ids)-1]
		if err := p.hold(ctx); err != nil {
			return err
		}
	}
}

// batches repeats one bounded delete until it finds little.
func (p *pruner) batches(ctx context.Context, what string, f func() (int64, error)) error {
	for {
		n, err := f()
		if err != nil {
			return wrap(err, "prune %s", what)
		}
		p.gone += n
		if n < pruneBatch {
			return ctx.Err()
		}
		if err := p.hold(ctx); err != nil {
			return err
		}
		rest(ctx, prunePause)
	}
}

// hold keeps the claim; it fails when another controller took the work over.
func (p *pruner) hold(ctx context.Context) error {
	tag, err := p.s.pool.Exec(ctx, p.s.sql.Get("PruneHold"), p.holder)
	if err == nil && tag.RowsAffected() == 0 {
		return fault.New(fault.Stale, "another controller took the pruning over")
	}
	return wrap(err, "hold the pruning")
}

// errForgotten tells a reader that it cannot go on where it ended.
func errForgotten() error {
	return fault.New(fault.Stale, `events after this point are not kept any more: begin anew, with the resume token "0" or without one`)
}
