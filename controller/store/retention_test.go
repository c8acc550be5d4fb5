package store_test

import (
	"testing"

	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

// TestRetentionIsChangedOneByOne: a limit that is set leaves the others, and 0 is
// the default again.
func TestRetentionIsChangedOneByOne(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	want := func(changed map[string]int) {
		t.Helper()
		list, err := s.RetentionGet(t.Context())
		if err != nil || len(list) != 8 {
			t.Fatalf("got %v, %v, want eight limits", list, err)
		}
		for _, l := range list {
			n, ok := changed[l.Name]
			if !ok {
				n = l.Default
			}
			if l.Value != n {
				t.Errorf("%s: got %d, want %d", l.Name, l.Value, n)
			}
		}
	}
	want(nil)
	for _, step := range []struct {
		name string
		n    int
		want map[string]int
	}{
		{"event_days", 90, map[string]int{"event_days": 90}},
		{"audit_days", -1, map[string]int{"event_days": 90, "audit_days": -1}},
		{"event_days", 0, map[string]int{"audit_days": -1}},
	} {
		if err := s.RetentionSet(t.Context(), step.name, step.n, "alice"); err != nil {
			t.Fatal(err)
		}
		want(step.want)
	}
	wantKind(t, s.RetentionSet(t.Context(), "receipt_days", 1, "alice"), fault.NotFound)
	if lines, err := s.AuditList(t.Context(), 0, "retention", 10); err != nil || len(lines) != 3 || lines[0].Actor != "alice" || lines[0].Detail["event_days"] != "90" {
		t.Errorf("got %v, %v, want three lines of alice", lines, err)
	}
}
