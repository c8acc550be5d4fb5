package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
)

// What a machine may make us keep of its own accord: events and test results
// count one line each, a collection more. So many lines at once, and so many
// given back in an hour. A whole deploy makes about forty; one boot ten.
const (
	linesMost, linesHourly       = 5000, 1000
	strangerMost, strangerHourly = 200, 20
	collectionLines              = 50
)

// afford reports whether so many lines more of what a machine says are kept. A
// new boot gives none of them back. That something is dropped becomes one event,
// and how much it was another one when it is over. Results of orders are no
// lines: they are always kept. The machine must be locked.
func (s *Store) afford(ctx context.Context, tx pgx.Tx, id machine.ID, lines int) (bool, error) {
	if lines == 0 {
		return true, nil
	}
	var fits bool
	var dropped uint64
	err := tx.QueryRow(ctx, s.sql.Get("ReportAfford"), id, lines, linesHourly/3600.0, strangerHourly/3600.0, linesMost, strangerMost).Scan(&fits, &dropped)
	if err == pgx.ErrNoRows {
		return false, noMachine(string(id))
	}
	if err != nil {
		return false, err
	}
	switch {
	case !fits && dropped == 0:
		err = s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventWarning,
			Text: "the machine says more than is kept; of what comes now, only results of orders are"})
	case fits && dropped > 0:
		err = s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventWarning,
			Text: fmt.Sprintf("%d reports of the machine were not kept: it said too much", dropped)})
	}
	return fits, err
}

// eventAfford adds events that a machine causes by itself, if they can be
// afforded.
func (s *Store) eventAfford(ctx context.Context, tx pgx.Tx, id machine.ID, events ...machine.Event) error {
	fits, err := s.afford(ctx, tx, id, len(events))
	if err != nil || !fits {
		return err
	}
	return s.eventAdd(ctx, tx, id, events...)
}
