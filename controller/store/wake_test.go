package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

// takeUntil takes wake-ups until one names the machine, and gives all that came.
func takeUntil(t *testing.T, w *store.MachineWake, id machine.ID) []machine.ID {
	t.Helper()
	var got []machine.ID
	late := time.After(30 * time.Second)
	for {
		select {
		case <-w.C:
		case <-late:
			t.Fatalf("no wake-up of machine %s; got %v", id, got)
		}
		ids, _ := w.Take() // the first may be for all: what was missed before
		if got = append(got, ids...); slices.Contains(ids, id) {
			return got
		}
	}
}

// A change names its machine, here and in another controller, and events name
// none.
func TestWakeNamesMachines(t *testing.T) {
	t.Parallel()
	dsn := storetest.Database(t)
	here, there := storetest.Again(t, dsn), storetest.Again(t, dsn)
	quiet, loud := added(t, here, mac(1)), added(t, here, mac(2))
	for _, s := range []*store.Store{here, there} {
		w := s.WakeMachines(t.Context())
		for range 3 {
			if err := here.EventAppend(t.Context(), quiet.ID, machine.Event{Kind: "x", Text: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := here.MachineApprove(t.Context(), loud.ID, "", "alice"); err != nil {
			t.Fatal(err)
		}
		if got := takeUntil(t, w, loud.ID); slices.Contains(got, quiet.ID) {
			t.Errorf("got %v woken, want %s alone", got, loud.ID)
		}
	}
}

// The marks change with what the holder of a stream must know, and with nothing
// else.
func TestAgentsHeld(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	if err := s.ControllerStart(t.Context(), "c1", "here"); err != nil {
		t.Fatal(err)
	}
	c := bootUp(t, s, mac(1), "")
	mark := func() string {
		t.Helper()
		marks, err := s.AgentsHeld(t.Context(), "c1")
		if err != nil {
			t.Fatal(err)
		}
		return marks[c.MachineID]
	}
	if got := mark(); got != "" {
		t.Errorf("before its stream: got %q", got)
	}
	if _, _, err := s.AgentOnline(t.Context(), c.MachineID, c.BootGeneration, "c1"); err != nil {
		t.Fatal(err)
	}
	last := mark()
	for _, tt := range []struct {
		what    string
		do      func() error
		changes bool
	}{
		{"an event", func() error { return s.EventAppend(t.Context(), c.MachineID, machine.Event{Kind: "x", Text: "x"}) }, false},
		{"approval", func() error { _, err := s.MachineApprove(t.Context(), c.MachineID, "", "alice"); return err }, true},
		{"an order", func() error {
			commission(t, s, c.MachineID)
			snap := claimOne(t, s)
			return s.DecisionSave(t.Context(), snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
		}, true},
		{"the end of the stream", func() error { return s.AgentOffline(t.Context(), c.MachineID, c.BootGeneration, 1) }, true},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		if now := mark(); (now != last) != tt.changes {
			t.Errorf("%s: got %q after %q, want a change: %t", tt.what, now, last, tt.changes)
		} else {
			last = now
		}
	}
}
