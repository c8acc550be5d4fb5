package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Retention says how long history is kept, in days and in rows a machine; zero
// takes the default, a negative number keeps for ever. The setting "retention"
// holds it. Inventories are bounded when they are stored (the newest twenty of a
// machine), and erase receipts are never pruned.
type Retention struct {
	EventDays        int `json:"event_days"`
	EventsPerMachine int `json:"events_per_machine"`
	TestDays         int `json:"test_days"`
	TestsPerMachine  int `json:"tests_per_machine"`
	OrderDays        int `json:"order_days"` // orders of operations that have ended
	OperationDays    int `json:"operation_days"`
	LeaseDays        int `json:"lease_days"` // after their end
	AuditDays        int `json:"audit_days"`
}

// Limit is one number of the retention.
type Limit struct {
	Name    string // as in the setting
	Value   int    // days, or rows a machine; negative: for ever
	Default int
}

// limit is one number in its place.
type limit struct {
	name  string
	field *int
	usual int // the default
}

func (r *Retention) limits() []limit {
	return []limit{
		{"event_days", &r.EventDays, 400}, {"events_per_machine", &r.EventsPerMachine, 100_000},
		{"test_days", &r.TestDays, 400}, {"tests_per_machine", &r.TestsPerMachine, 10_000},
		{"order_days", &r.OrderDays, 60}, {"operation_days", &r.OperationDays, 400},
		{"lease_days", &r.LeaseDays, 90}, {"audit_days", &r.AuditDays, 2000},
	}
}

// days is an age; nil is for ever.
func days(n int) *time.Duration {
	if n < 0 {
		return nil
	}
	age := time.Duration(n) * 24 * time.Hour
	return &age
}

const retentionKey = "retention"

// retention is what is in force.
func (s *Store) retention(ctx context.Context) (Retention, error) {
	var r Retention
	if err := s.settingGet(ctx, retentionKey, &r); err != nil && !fault.Is(err, fault.NotFound) {
		return r, err
	}
	for _, l := range r.limits() {
		if *l.field == 0 {
			*l.field = l.usual
		}
	}
	return r, nil
}

// RetentionGet lists what is in force.
func (s *Store) RetentionGet(ctx context.Context) ([]Limit, error) {
	r, err := s.retention(ctx)
	if err != nil {
		return nil, err
	}
	var list []Limit
	for _, l := range r.limits() {
		list = append(list, Limit{Name: l.name, Value: *l.field, Default: l.usual})
	}
	return list, nil
}

// RetentionSet changes one of the limits: 0 is its default, a negative number for
// ever. The next pruning heeds it.
func (s *Store) RetentionSet(ctx context.Context, name string, n int, actor string) error {
	known := false
	for _, l := range new(Retention).limits() {
		known = known || l.name == name
	}
	if !known {
		return fault.New(fault.NotFound, "nothing is kept by the name %q", cut(name, 80))
	}
	patch, err := json.Marshal(map[string]int{name: n})
	if err != nil {
		return fmt.Errorf("encode setting %s: %w", name, err)
	}
	return s.tx(ctx, "set how long is kept: "+name, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("SettingMerge"), retentionKey, patch); err != nil {
			return err
		}
		_, err := s.auditAdd(ctx, tx, actor, "setting.set", retentionKey, map[string]string{name: fmt.Sprint(n)})
		return err
	})
}
