package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/ingot-metal/ingot/controller/store/migrations"
)

// Migrate brings the schema up to date. Controllers that start together take
// turns; one with an older schema than the database's refuses.
func (s *Store) Migrate(ctx context.Context) (err error) {
	db := stdlib.OpenDBFromPool(s.pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("prepare the schema's lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the schema's migrations: %w", err)
	}
	// Asking first spares a lock, and tells a newer database from ours.
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	if has, err := provider.GetDBVersion(ctx); err == nil && has > newest {
		return fmt.Errorf("the database has schema %d and this ingotd knows up to %d: start the newer ingotd", has, newest)
	} else if err == nil && has == newest {
		return nil
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	for _, r := range results {
		s.log.Info("schema migrated", "version", r.Source.Version, "elapsed", r.Duration)
	}
	return nil
}
