package store

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// executor is a pool or a transaction that changes rows.
type executor interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}
