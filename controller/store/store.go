// Package store keeps all state in PostgreSQL. It is the only package with SQL:
// the statements stand in queries/, one file a subject; the schema's history in
// migrations/, its present in schema.sql.
//
// Methods are named noun first, verb last. All may be called in parallel. Their
// errors have a kind of proto/fault where a caller can act on it; what cannot
// reach the database is fault.Unavailable and may be repeated.
//
// Only DecisionSave, MachineTimeout and the quarantine in SessionClaim change a
// machine's state. Everyone else records a wish or a fact and nudges.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ingot-metal/ingot/controller/store/queries"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Store is an open database. Close ends it.
type Store struct {
	pool *pgxpool.Pool
	ring seal.Keyring
	log  *slog.Logger
	sql  queries.Set
	wake *wake
	seen *observations

	stop    context.CancelFunc
	runners sync.WaitGroup
}

// Open connects to the database that dsn names (a PostgreSQL URL or keyword
// string), brings its schema up to date, and starts what listens for wake-ups.
// The keyring must be that of all controllers on this database.
func Open(ctx context.Context, dsn string, ring seal.Keyring, log *slog.Logger) (*Store, error) {
	if !ring.Valid() {
		return nil, errors.New("open the database: no key to seal secrets with")
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the database address: %w", err)
	}
	config.MaxConns = max(config.MaxConns, 16)
	config.MaxConnLifetime = 30 * time.Minute
	config.ConnConfig.RuntimeParams["application_name"] = "ingotd"
	// What a transaction holds must end, whatever became of its client.
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{pool: pool, ring: ring, log: log, sql: queries.Load(), wake: newWake(), seen: newObservations()}
	if err := errors.Join(s.Migrate(ctx), s.checkKey(ctx)); err != nil {
		pool.Close()
		return nil, err
	}
	s.start()
	return s, nil
}

// checkKey refuses a key file that is not this database's, before anything that
// it cannot open is met half-way.
func (s *Store) checkKey(ctx context.Context) error {
	var certificate, sealed []byte
	err := s.pool.QueryRow(ctx, s.sql.Get("AuthorityGet")).Scan(&certificate, &sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // nothing was sealed yet
	}
	if err == nil {
		_, err = s.open(sealed, authorityPlace)
	}
	return wrap(err, "check the key file against the database")
}

// start runs what works in the background until Close.
func (s *Store) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	for _, run := range []func(context.Context){s.runListen, s.runNotify, s.runObservations, s.runPrune} {
		s.runners.Go(func() { run(ctx) })
	}
}

// Close ends the background work and closes all connections.
func (s *Store) Close() {
	s.stop()
	s.runners.Wait()
	s.pool.Close()
}

// Healthy returns nil when the database answers a query that needs its tables.
func (s *Store) Healthy(ctx context.Context) error {
	var now time.Time
	return wrap(s.pool.QueryRow(ctx, s.sql.Get("ClockNow")).Scan(&now), "ask the database")
}

// Now is the database's clock, which all deadlines and leases go by.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.pool.QueryRow(ctx, s.sql.Get("ClockNow")).Scan(&now)
	return now.UTC(), wrap(err, "read the database's clock")
}

// open opens a sealed column; a failure to do so is the operator's to mend.
func (s *Store) open(sealed []byte, place string) ([]byte, error) {
	plain, err := s.ring.Open(sealed, place)
	return plain, fault.Wrap(fault.Precondition, err, "open a secret of the database")
}
