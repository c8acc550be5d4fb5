package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Audit is one line of who did what to what.
type Audit struct {
	ID      int64
	At      time.Time
	Actor   string
	Action  string
	Subject string
	Detail  map[string]string
}

// auditAdd writes the line in the transaction of the change.
func (s *Store) auditAdd(ctx context.Context, tx pgx.Tx, actor, action, subject string, detail map[string]string) (int64, error) {
	text, err := document(bound(detail))
	if err != nil {
		return 0, err
	}
	var id int64
	err = tx.QueryRow(ctx, s.sql.Get("AuditInsert"), cut(actor, 200), action, subject, text).Scan(&id)
	return id, err
}

// AuditList lists the trail after an id (0: from the first line), oldest first.
// An empty subject means all.
func (s *Store) AuditList(ctx context.Context, after int64, subject string, size int) ([]Audit, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("AuditList"), func(r pgx.CollectableRow) (Audit, error) {
		var a Audit
		var detail []byte
		if err := r.Scan(&a.ID, &a.At, &a.Actor, &a.Action, &a.Subject, &detail); err != nil {
			return a, err
		}
		a.At = a.At.UTC()
		return a, json.Unmarshal(detail, &a.Detail)
	}, after, subject, pageSize(size))
	return list, wrap(err, "list the audit trail")
}
