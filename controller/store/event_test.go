package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/queries"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Many writers, one reader that reads all the while: every event comes once, and
// those of one machine in their order.
func TestEventAfterHasNoGap(t *testing.T) {
	t.Parallel()
	const machines, writers, each = 4, 8, 25
	s := storetest.New(t)
	var ids []machine.ID
	for i := range machines {
		ids = append(ids, added(t, s, mac(byte(i))).ID)
	}
	total := machines + writers*each*2 // each machine has the event of its making
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := machine.Event{Kind: "x", Text: fmt.Sprintf("%d-%d", w, i)}
				if err := s.EventAppend(t.Context(), ids[(w+i)%machines], e, e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	last := map[machine.ID]uint64{}
	token, got := "0", 0
	deadline := time.Now().Add(30 * time.Second)
	wake := s.Wake(t.Context())
	for got < total && time.Now().Before(deadline) {
		list, next, err := s.EventAfter(t.Context(), token, "", 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Sequence != last[e.MachineID]+1 {
				t.Fatalf("machine %s: got event %d after %d", e.MachineID, e.Sequence, last[e.MachineID])
			}
			last[e.MachineID] = e.Sequence
			got++
		}
		if token = next; len(list) == 0 {
			select {
			case <-wake:
			case <-time.After(50 * time.Millisecond): // the floor
			}
		}
	}
	wg.Wait()
	if got != total {
		t.Errorf("got %d events, want %d", got, total)
	}
}

// A transaction that is older than the machine's last event, by its number, and
// writes after it, must not come before it.
func TestEventOrderOfOlderTransaction(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m := added(t, s, mac(1))
	conn, err := pgx.Connect(t.Context(), storetest.DSN(s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var xid uint64
	if err := tx.QueryRow(t.Context(), "SELECT pg_current_xact_id()").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	if err := s.EventAppend(t.Context(), m.ID, machine.Event{Kind: "x", Text: "second"}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.EventAfter(t.Context(), "0", "", 100); err != nil || len(list) > 1 {
		t.Errorf("got %d events while an older transaction is under way, want 1 at most (%v)", len(list), err)
	}
	if list, _, err := s.EventAfter(t.Context(), "0", m.ID, 100); err != nil || len(list) != 2 {
		t.Errorf("got %d events of the machine alone, want 2 at once (%v)", len(list), err)
	}
	// What the store does for an event, inside the older transaction.
	var last, given uint64
	if err := tx.QueryRow(t.Context(), queries.Load().Get("EventSequence"), m.ID, 1).Scan(&last, &given); err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec(t.Context(), queries.Load().Get("EventInsert"), m.ID, last+1, "x", "third", []byte("{}"), given); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, _ := after(t, s, "0", "", 2)
	if len(list) != 3 || list[1].Text != "second" || list[2].Text != "third" {
		t.Errorf("got %+v", list)
	}
}

func TestEventAfterFromNow(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	a, b := added(t, s, mac(1)), added(t, s, mac(2))
	tokens := map[machine.ID]string{}
	for _, id := range []machine.ID{"", b.ID} {
		list, token, err := s.EventAfter(t.Context(), "", id, 10)
		if err != nil || len(list) != 0 {
			t.Fatalf("got %v, %v", list, err)
		}
		tokens[id] = token
	}
	for _, id := range []machine.ID{a.ID, b.ID} {
		if err := s.EventAppend(t.Context(), id, machine.Event{Kind: "x", Text: "new"}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[machine.ID]int{"": 2, b.ID: 1} {
		list, next := after(t, s, tokens[id], id, want)
		got := 0
		for _, e := range list {
			if e.Text == "new" {
				got++
			} else if id != "" { // across machines the present begins a little early
				t.Errorf("watch of %q: got %+v", id, e)
			}
		}
		if got != want {
			t.Errorf("watch of %q: got %d new events, want %d", id, got, want)
		}
		if list, _, err := s.EventAfter(t.Context(), next, id, 10); err != nil || len(list) != 0 {
			t.Errorf("watch of %q: got %+v again, %v", id, list, err)
		}
	}
	_, _, err := s.EventAfter(t.Context(), tokens[b.ID], a.ID, 10)
	wantKind(t, err, fault.Invalid)
	for _, bad := range []string{"x", "MS4y", "////"} {
		_, _, err := s.EventAfter(t.Context(), bad, "", 10)
		wantKind(t, err, fault.Invalid)
	}
}

// after reads on until so many events of kind x came: other tests' transactions,
// of the same server, may hold them back.
func after(t *testing.T, s *store.Store, token string, id machine.ID, want int) (all []store.Event, next string) {
	t.Helper()
	got := 0
	for range 200 {
		list, at, err := s.EventAfter(t.Context(), token, id, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Kind == "x" {
				got++
			}
		}
		all, token = append(all, list...), at
		if got >= want {
			break
		}
		<-time.After(25 * time.Millisecond)
	}
	return all, token
}

// What a machine says is hostile: zero bytes and megabytes must not matter.
func TestEventTextIsBounded(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m := added(t, s, mac(1))
	long := make([]byte, 1<<20)
	for i := range long {
		long[i] = byte(i)
	}
	if err := s.EventAppend(t.Context(), m.ID, machine.Event{Kind: "x", Text: string(long), Detail: map[string]string{"a\x00": string(long)}}); err != nil {
		t.Fatal(err)
	}
	list, err := s.EventList(t.Context(), m.ID, 1, 10)
	if err != nil || len(list) != 1 || len(list[0].Text) > 4<<10 {
		t.Errorf("got %d events, %v", len(list), err)
	}
}

// Connections are killed while writers write: what was acknowledged is there,
// once, and the sequence has no gap.
func TestKilledConnections(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m := added(t, s, mac(1))
	stop := make(chan struct{})
	var killer, writers sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				storetest.Exec(t, s, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			}
		}
	})
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				text := fmt.Sprintf("%d-%d", w, i)
				err := s.EventAppend(t.Context(), m.ID, machine.Event{Kind: "x", Text: text})
				if err != nil {
					wantKind(t, err, fault.Unavailable)
					continue
				}
				mu.Lock()
				acknowledged[text] = true
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	close(stop)
	killer.Wait()
	var list []store.Event
	for range 20 { // the pool's dead connections show one by one
		var err error
		if list, err = s.EventList(t.Context(), m.ID, 0, 500); err == nil {
			break
		}
		wantKind(t, err, fault.Unavailable)
	}
	stored := map[string]int{}
	for i, e := range list {
		if e.Sequence != uint64(i)+1 {
			t.Fatalf("got event %d at place %d", e.Sequence, i+1)
		}
		stored[e.Text]++
	}
	for text := range acknowledged {
		if stored[text] != 1 {
			t.Errorf("event %s was acknowledged and is there %d times", text, stored[text])
		}
	}
}

func TestBootObserved(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m := added(t, s, mac(1))
	at := time.Now()
	for range 3 {
		s.BootObserved(t.Context(), boot.Observation{MAC: mac(1), What: boot.SeenDiscover, At: at})
	}
	s.BootObserved(t.Context(), boot.Observation{MAC: mac(7), What: boot.SeenDiscover, At: at})
	s.BootObserved(t.Context(), boot.Observation{MAC: mac(1), What: boot.SeenKernel, At: at})
	got := await(t, s, m.ID, 3)
	if got[1].Kind != machine.EventBoot || got[1].Text != "dhcp_discover" || got[2].Text != "kernel_sent" {
		t.Errorf("got %+v", got)
	}
	if snap := claimOne(t, s); snap.BootSeenWhat != "kernel_sent" || snap.BootSeenAt.IsZero() {
		t.Errorf("got %q at %s", snap.BootSeenWhat, snap.BootSeenAt)
	}
}

// await waits until a machine has so many events.
func await(t *testing.T, s *store.Store, id machine.ID, n int) []store.Event {
	t.Helper()
	wake := s.Wake(t.Context())
	for range 100 {
		list, err := s.EventList(t.Context(), id, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) >= n {
			return list
		}
		select {
		case <-wake:
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("machine %s never had %d events", id, n)
	return nil
}

// A change by one controller wakes another, over its listening connection; a
// killed one is made anew.
func TestWakeReachesOtherControllers(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	other := storetest.Again(t, storetest.DSN(s))
	m := added(t, s, mac(1))
	for round := range 2 {
		wake := other.Wake(t.Context())
		woken := false
		for range 50 {
			if err := s.MachineNudge(t.Context(), m.ID); err != nil {
				wantKind(t, err, fault.Unavailable) // a connection that was killed
			}
			select {
			case <-wake:
				woken = true
			case <-time.After(200 * time.Millisecond):
			}
			if woken {
				break
			}
		}
		if !woken {
			t.Fatalf("round %d: the other controller was never woken", round)
		}
		storetest.Exec(t, s, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	}
	if err := s.Healthy(t.Context()); err != nil {
		// The pool may hand out one broken connection; the next is new.
		wantKind(t, err, fault.Unavailable)
	}
}
