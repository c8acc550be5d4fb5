package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

func count(t *testing.T, s *store.Store, sql string) (n int) {
	t.Helper()
	storetest.Row(t, s, sql, nil, &n)
	return n
}

// What a stranger can make us keep ends, whatever it sends, however often it
// boots or connects; it says so once, and time gives some of it back.
func TestStrangerFillsNothing(t *testing.T) {
	t.Parallel()
	s := held(t)
	var c store.Claim
	sequence := uint64(0)
	flood := func() {
		for i := range 60 {
			sequence++
			r := store.Report{Events: []machine.Event{{Kind: machine.EventStep, Text: "a"}, {Kind: machine.EventStep, Text: "b"}}}
			switch i % 3 {
			case 1:
				r = store.Report{Test: &store.TestResult{Name: "n", Outcome: "failed"}}
			case 2:
				r = store.Report{Collection: &store.Collection{Payload: make([]byte, 1000), Facts: inventory.Facts{}}}
			}
			apply(t, s, c.MachineID, sequence, r)
		}
		if _, _, err := s.AgentOnline(t.Context(), c.MachineID, c.BootGeneration, "c1"); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		c, sequence = bootUp(t, s, mac(1), ""), 0
		flood()
	}
	kept := count(t, s, "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM test_result)")
	if kept > 210 {
		t.Errorf("got %d lines of a stranger, want at most about 200", kept)
	}
	if n := count(t, s, "SELECT count(*) FROM collection"); n > 4 {
		t.Errorf("got %d collections of a stranger, want at most 4", n)
	}
	if n := count(t, s, "SELECT count(*) FROM event WHERE text LIKE 'the machine says more than is kept%'"); n != 1 {
		t.Errorf("got %d events that say so, want 1", n)
	}
	storetest.ClockHold(t, s, epoch.Add(6*time.Hour))
	sequence++
	apply(t, s, c.MachineID, sequence, store.Report{Events: []machine.Event{{Kind: machine.EventStep, Text: "later"}}})
	list, err := s.EventList(t.Context(), c.MachineID, 0, 500)
	if err != nil {
		t.Fatal(err)
	}
	last := list[len(list)-2:]
	if !strings.HasSuffix(last[0].Text, "reports of the machine were not kept: it said too much") || last[1].Text != "later" {
		t.Errorf("six hours later: got %q and %q", last[0].Text, last[1].Text)
	}
	for i, e := range list {
		if e.Sequence != uint64(i)+1 {
			t.Fatalf("event %d has sequence %d", i, e.Sequence)
		}
	}
}
