package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

const day = 24 * time.Hour

func lines(t *testing.T, s *store.Store, id machine.ID, n int) {
	t.Helper()
	events := make([]machine.Event, n)
	for i := range events {
		events[i] = machine.Event{Kind: "x", Text: fmt.Sprint("line ", i)}
	}
	if err := s.EventAppend(t.Context(), id, events...); err != nil {
		t.Fatal(err)
	}
}

func prune(t *testing.T, s *store.Store) int64 {
	t.Helper()
	n, err := s.Prune(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// read reads from a token, some at a time, until it has as many as wanted, and
// gives the sequences of each machine. Events of all machines show a little late.
func read(t *testing.T, s *store.Store, token string, id machine.ID, want int) map[machine.ID][]uint64 {
	t.Helper()
	got := map[machine.ID][]uint64{}
	wake := s.Wake(t.Context())
	for n, deadline := 0, time.Now().Add(30*time.Second); n < want && time.Now().Before(deadline); {
		list, next, err := s.EventAfter(t.Context(), token, id, 37)
		if err != nil {
			t.Fatalf("after %d events: %v", n, err)
		}
		for _, e := range list {
			got[e.MachineID] = append(got[e.MachineID], e.Sequence)
		}
		n += len(list)
		if token = next; len(list) == 0 {
			select {
			case <-wake:
			case <-time.After(50 * time.Millisecond): // the floor
			}
		}
	}
	return got
}

// gapless checks that sequences run from first to last.
func gapless(t *testing.T, what string, got []uint64, first, last uint64) {
	t.Helper()
	if len(got) == 0 || got[0] != first || got[len(got)-1] != last || len(got) != int(last-first+1) {
		t.Errorf("%s: got %d events, %v, want %d to %d", what, len(got), got[:min(3, len(got))], first, last)
	}
}

// What is pruned is a beginning of each machine's history; a reader that would
// miss some is told, and one that would not goes on.
func TestPruneEvents(t *testing.T) {
	t.Parallel()
	s := held(t)
	quiet, busy := added(t, s, mac(1)), added(t, s, mac(2)) // one event each
	lines(t, s, quiet.ID, 49)
	lines(t, s, busy.ID, 2599)
	var tokens []string // of all machines, of one
	for _, id := range []machine.ID{"", busy.ID} {
		_, token := after(t, s, "0", id, 20)
		tokens = append(tokens, token)
	}
	storetest.ClockHold(t, s, epoch.Add(401*day))
	lines(t, s, busy.ID, 10)
	_, now, err := s.EventAfter(t.Context(), "", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := prune(t, s); n != 2510 {
		t.Errorf("got %d rows pruned, want 2510", n)
	}
	all := read(t, s, "0", "", 150)
	gapless(t, "a machine that says little", all[quiet.ID], 1, 50)
	gapless(t, "one that says much", all[busy.ID], 2511, 2610)
	gapless(t, "by itself", read(t, s, "0", busy.ID, 100)[busy.ID], 2511, 2610)
	for i, id := range []machine.ID{"", busy.ID} {
		_, _, err := s.EventAfter(t.Context(), tokens[i], id, 20)
		wantKind(t, err, fault.Stale)
	}
	_, err = s.EventList(t.Context(), busy.ID, 20, 20)
	wantKind(t, err, fault.Stale)
	lines(t, s, quiet.ID, 1)
	gapless(t, "a watch that was at its end", read(t, s, now, quiet.ID, 1)[quiet.ID], 51, 51)
}

// The number of events of one machine is bounded too, and the settings count.
func TestRetentionIsASetting(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	lines(t, s, m.ID, 999)
	for name, n := range map[string]int{"events_per_machine": 300, "event_days": -1} {
		if err := s.RetentionSet(t.Context(), name, n, "alice"); err != nil {
			t.Fatal(err)
		}
	}
	storetest.ClockHold(t, s, epoch.Add(10000*day))
	if n := count(t, s, "SELECT count(*) FROM event"); n != 1000 {
		t.Fatalf("got %d events", n)
	}
	prune(t, s)
	gapless(t, "bounded by number", read(t, s, "0", m.ID, 300)[m.ID], 701, 1000)
}

// One controller prunes, once an hour; one that died is replaced.
func TestOnePrunes(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	lines(t, s, m.ID, 999)
	storetest.ClockHold(t, s, epoch.Add(500*day))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var turns, rows int64
	for range 8 {
		wg.Go(func() {
			n, err := s.Prune(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if rows += n; n > 0 {
				turns++
			}
		})
	}
	wg.Wait()
	if turns != 1 || rows < 900 {
		t.Errorf("got %d turns and %d rows, want one that does it all", turns, rows)
	}
	storetest.Exec(t, s, "UPDATE event SET at = '2000-01-01'; UPDATE machine SET event_sequence = event_sequence + 50")
	if n := prune(t, s); n != 0 {
		t.Errorf("got %d rows within the hour, want none", n)
	}
	storetest.Exec(t, s, "UPDATE pruning SET holder = 'dead', claimed_until = ingot_now() + interval '1 minute', next_at = ingot_now()")
	if n := prune(t, s); n != 0 {
		t.Errorf("got %d rows while another is at it, want none", n)
	}
	storetest.ClockHold(t, s, epoch.Add(500*day+2*time.Minute))
	if n := prune(t, s); n != 50 {
		t.Errorf("got %d rows after the other one died, want 50", n)
	}
}

// A deleted machine's history stays until it is old; what proves an erase stays.
func TestHistoryOutlivesItsMachine(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	lines(t, s, m.ID, 200)
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Enrolled, Outcome: machine.OutcomeNone}, Receipts: []machine.EraseReceipt{{DiskSerial: "S1", Verified: true}}})
	if err := s.MachineDelete(t.Context(), m.ID, true, "alice"); err != nil {
		t.Fatal(err)
	}
	list, err := s.EventList(t.Context(), m.ID, 0, 500)
	if err != nil || len(list) != 203 || list[202].Text != "deleted by alice" {
		t.Errorf("got %d events, the last %+v, %v", len(list), list[len(list)-1], err)
	}
	if r, err := s.ReceiptList(t.Context(), m.ID); err != nil || len(r) != 1 {
		t.Errorf("got receipts %v, %v, want one", r, err)
	}
	storetest.ClockHold(t, s, epoch.Add(401*day))
	prune(t, s)
	if n := count(t, s, "SELECT count(*) FROM event"); n != 0 {
		t.Errorf("got %d events after 401 days, want none", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit"); n < 3 {
		t.Errorf("got %d lines of audit, want all", n)
	}
}

// What is old goes with all that hangs on it, and what is in use stays.
func TestPruneTheRest(t *testing.T) {
	t.Parallel()
	s := held(t)
	id, first := ordered(t, s)
	finish := func(o machine.Order) {
		t.Helper()
		if err := s.OrderDelivered(t.Context(), o.ID, 1); err != nil {
			t.Fatal(err)
		}
		o.State = machine.OrderSucceeded
		if err := s.OrderFinish(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	finish(first)
	save(t, s, claimOneAfterNudge(t, s, id), machine.Decision{
		End:      &machine.End{To: machine.Deployed, Outcome: machine.OutcomeNone},
		Deployed: &machine.Deployment{OperationID: first.OperationID, ImageDigest: digest('a'), Proof: machine.ProofNone}})
	power := func() string {
		o, err := s.OperationCreate(t.Context(), id, machine.OperationPower, machine.Wish{Power: &machine.PowerWish{Action: "on"}}, "", "alice")
		if err != nil {
			t.Fatal(err)
		}
		snap := claimOne(t, s)
		save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{bmcOrder(snap, "power-on", machine.BMCOn)}})
		c, err := s.OrderClaimForBMC(t.Context(), "c1", time.Minute)
		if err != nil || c == nil {
			t.Fatalf("got %v, %v", c, err)
		}
		c.State = machine.OrderSucceeded
		if err := s.OrderFinish(t.Context(), *c); err != nil {
			t.Fatal(err)
		}
		save(t, s, claimOne(t, s), machine.Decision{End: &machine.End{To: machine.Deployed, Outcome: machine.OutcomeNone}})
		return o.ID
	}
	old, last := power(), power()
	apply(t, s, id, 2, store.Report{Test: &store.TestResult{Name: "disk", Outcome: "passed", At: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}})
	storetest.Exec(t, s, "UPDATE audit SET at = '2000-01-01' WHERE action = 'bmc.on' OR action = 'machine.add'")
	storetest.ClockHold(t, s, epoch.Add(61*day))
	prune(t, s)
	if n := count(t, s, "SELECT count(*) FROM machine_order"); n != 0 {
		t.Errorf("got %d orders after 61 days, want none", n)
	}
	if n := count(t, s, "SELECT count(*) FROM operation"); n != 3 {
		t.Errorf("got %d operations after 61 days, want 3", n)
	}
	if n := count(t, s, "SELECT count(*) FROM audit WHERE at < '2001-01-01'"); n != 0 {
		t.Errorf("got %d lines of audit of the year 2000, want none", n)
	}
	if n := count(t, s, "SELECT count(*) FROM test_result"); n != 0 {
		t.Errorf("got %d old test results, want none", n)
	}
	storetest.ClockHold(t, s, epoch.Add(401*day))
	prune(t, s)
	for op, want := range map[string]bool{first.OperationID: true, old: false, last: true} {
		if _, err := s.OperationGet(t.Context(), op); (err == nil) != want {
			t.Errorf("operation %s (the deploy is %s, the last one %s): got %v, want kept: %t", op, first.OperationID, last, err, want)
		}
	}
	if d := get(t, s, id).Deployed; d == nil {
		t.Error("the deployment of a deployed machine was pruned")
	}
	if n := count(t, s, "SELECT (SELECT count(*) FROM boot_session) + (SELECT count(*) FROM agent_certificate)"); n != 0 {
		t.Errorf("got %d sessions and certificates, want none", n)
	}
}
