package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingot-metal/ingot/proto/fault"
)

// txTries bounds how often a transaction is repeated that the database ended to
// break a deadlock, or that never reached it.
const txTries = 4

// tx runs f in one transaction and commits. f may run again, so it must set all
// of its results each time. what says what is being done, for the error.
func (s *Store) tx(ctx context.Context, what string, f func(pgx.Tx) error) error {
	var err error
	for range txTries {
		err = pgx.BeginFunc(ctx, s.pool, f)
		if !repeatable(err) {
			break
		}
	}
	return wrap(err, "%s", what)
}

func repeatable(err error) bool {
	var pg *pgconn.PgError
	deadlock := errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
	// A connection that died in the pool says so before anything was sent.
	return deadlock || pgconn.SafeToRetry(err)
}

// wrap says what was being done and gives database errors their kind.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var known *fault.Error
	if errors.As(err, &known) {
		return err // it is a sentence for a person already
	}
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.Wrap(fault.NotFound, err, "%s", what)
	case !errors.As(err, &pg):
		// No answer from the server: broken, refused or timed out.
		return fault.Wrap(fault.Unavailable, err, "%s", what)
	case pg.Code == "23505":
		return fault.Wrap(fault.Exists, err, "%s", what)
	case pg.Code[:2] == "22" || pg.Code[:2] == "23":
		// Values that no column takes: the sender's to mend, not ours to repeat.
		return fault.Wrap(fault.Invalid, err, "%s", what)
	case pg.Code[:2] == "08" || pg.Code[:2] == "53" || pg.Code[:2] == "57" || pg.Code[:2] == "40" || pg.Code == "25P03":
		return fault.Wrap(fault.Unavailable, err, "%s", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// constraint names the constraint that a statement would have broken, or "".
func constraint(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.ConstraintName
	}
	return ""
}

// when turns the zero time into NULL, and one that no clock shows as well.
func when(t time.Time) *time.Time {
	if t.IsZero() || t.Year() < 1970 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// whole fits a claimed quantity into a bigint.
func whole(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// instant turns NULL into the zero time, and everything into UTC.
func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// document makes JSON for a jsonb column; nil maps become {}.
func document(m map[string]string) ([]byte, error) {
	if len(m) == 0 {
		return []byte("{}"), nil
	}
	return json.Marshal(m)
}

// cut bounds text that came from outside, on a character's border, and removes
// what PostgreSQL cannot store.
func cut(s string, most int) string {
	out := make([]rune, 0, min(len(s), most))
	size := 0
	for _, r := range s {
		if r == 0 {
			r = '�'
		}
		if size += len(string(r)); size > most {
			break
		}
		out = append(out, r)
	}
	return string(out)
}
