package store_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

const uuidA, uuidB = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-2222-3333-4444-555555555555"

func TestSessionOpenRepeatsItsNonce(t *testing.T) {
	t.Parallel()
	s := held(t)
	first := nonce(t, s, mac(1), "")
	storetest.ClockHold(t, s, epoch.Add(11*time.Minute))
	if got := nonce(t, s, mac(1), ""); got != first {
		t.Error("got another nonce within the window, want the same")
	}
	if got := nonce(t, s, mac(2), ""); got == first {
		t.Error("got the same nonce for another MAC")
	}
	storetest.ClockHold(t, s, epoch.Add(13*time.Minute))
	if got := nonce(t, s, mac(1), ""); got == first {
		t.Error("got a nonce with two minutes left, want a new one")
	}
	var clear int
	storetest.Row(t, s, "SELECT count(*) FROM boot_session b WHERE position($1::text IN b::text) > 0", []any{first}, &clear)
	if clear != 0 {
		t.Error("the nonce is in the database in clear")
	}
}

func TestSessionClaim(t *testing.T) {
	t.Parallel()
	s := held(t)
	n := nonce(t, s, mac(1), uuidA)
	first, err := s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), uuidA))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), uuidA))
	if err != nil || again != first {
		t.Errorf("the same key again: got %v, %v, want %v", again, err, first)
	}
	m := get(t, s, first.MachineID)
	if m.State != machine.Enrolled || m.Approved || m.BootGeneration != 1 || len(m.NICs) != 1 || m.UUID != uuidA {
		t.Errorf("got machine %+v", m)
	}
	_, err = s.SessionClaim(t.Context(), "no such nonce", key("a"), identity(mac(1), uuidA))
	wantKind(t, err, fault.Denied)
	other := nonce(t, s, mac(1), uuidA)
	if other == n {
		t.Error("a claimed session was opened again")
	}
	storetest.ClockHold(t, s, epoch.Add(16*time.Minute))
	_, err = s.SessionClaim(t.Context(), other, key("a"), identity(mac(1), uuidA))
	wantKind(t, err, fault.Denied)
	if again, err := s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), uuidA)); err != nil || again != first {
		t.Errorf("the same key after the window: got %v, %v", again, err)
	}
}

func TestSessionClaimedWithAnotherKeyBreaksTheMachine(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	o := commission(t, s, m.ID)
	n := nonce(t, s, mac(1), "")
	claim, err := s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), ""))
	if err != nil || claim.MachineID != m.ID {
		t.Fatalf("got %v, %v, want machine %s", claim, err, m.ID)
	}
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
	_, err = s.SessionClaim(t.Context(), n, key("b"), identity(mac(1), ""))
	wantKind(t, err, fault.Denied)
	got := get(t, s, m.ID)
	if got.State != machine.Broken || got.Reason != machine.ReasonNonceOtherKey || got.Outcome != machine.OutcomeFailed {
		t.Errorf("got %s, %s, %s", got.State, got.Outcome, got.Reason)
	}
	if o, _ = s.OperationGet(t.Context(), o.ID); o.State != machine.OperationFailed || o.Reason != machine.ReasonNonceOtherKey {
		t.Errorf("got operation %s, %s", o.State, o.Reason)
	}
	if list, err := s.OrderPendingForAgent(t.Context(), m.ID, claim.BootGeneration); err != nil || len(list) != 0 {
		t.Errorf("got orders %v, %v, want none", list, err)
	}
	_, err = s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), ""))
	wantKind(t, err, fault.Denied) // nobody knows which of the two is the machine
	wantKind(t, s.EventAppend(t.Context(), "zzzzzz", machine.Event{Kind: "x"}), fault.NotFound)
}

// An old nonce, seen on some console, must not be a way to break a machine.
func TestOldNonceHarmsNobody(t *testing.T) {
	t.Parallel()
	s := held(t)
	old := nonce(t, s, mac(1), "")
	claim, err := s.SessionClaim(t.Context(), old, key("a"), identity(mac(1), ""))
	if err != nil {
		t.Fatal(err)
	}
	bootUp(t, s, mac(1), "")
	_, err = s.SessionClaim(t.Context(), old, key("b"), identity(mac(1), ""))
	wantKind(t, err, fault.Denied)
	_, err = s.SessionClaim(t.Context(), old, key("a"), identity(mac(1), ""))
	wantKind(t, err, fault.Denied)
	if got := get(t, s, claim.MachineID); got.State != machine.Enrolled || got.BootGeneration != 2 {
		t.Errorf("got %s, boot %d", got.State, got.BootGeneration)
	}
}

func TestParallelClaimsOfOneNonce(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	n := nonce(t, s, mac(1), "")
	var wg sync.WaitGroup
	errs := make([]error, 16)
	claims := make([]store.Claim, 16)
	for i := range errs {
		wg.Go(func() { claims[i], errs[i] = s.SessionClaim(t.Context(), n, key("a"), identity(mac(1), "")) })
	}
	wg.Wait()
	for i := range errs {
		if errs[i] != nil || claims[i] != claims[0] || claims[i].BootGeneration != 1 {
			t.Errorf("claim %d: got %v, %v", i, claims[i], errs[i])
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	laa := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 9}
	ask := func(s *store.Store, who store.Identity) store.Claim {
		n := nonce(t, s, who.BootMAC, who.UUID)
		c, err := s.SessionClaim(t.Context(), n, key(n), who)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("MAC decides over UUID, and the conflict is named", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		a, b := ask(s, identity(mac(1), uuidA)), ask(s, identity(mac(2), uuidB))
		again := ask(s, identity(mac(1), uuidB))
		if again.MachineID != a.MachineID || a.MachineID == b.MachineID {
			t.Fatalf("got %s, want %s", again.MachineID, a.MachineID)
		}
		if m := get(t, s, a.MachineID); len(m.Warnings) != 2 || m.UUID != uuidA {
			t.Errorf("got UUID %s and warnings %v", m.UUID, m.Warnings)
		}
	})
	t.Run("one UUID on two boards makes two machines", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		a, b := ask(s, identity(mac(1), uuidA)), ask(s, identity(mac(2), uuidA))
		if a.MachineID == b.MachineID {
			t.Fatal("machines were merged by their UUID")
		}
		if m := get(t, s, b.MachineID); len(m.Warnings) != 1 {
			t.Errorf("got warnings %v, want the shared UUID", m.Warnings)
		}
	})
	t.Run("without a permanent MAC the UUID decides, in both byte orders", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		other := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 10}
		a, b := ask(s, identity(laa, uuidA)), ask(s, identity(other, "11111111-2222-3333-4444-555555555555"))
		c := ask(s, identity(laa, uuidB))
		swapped := ask(s, identity(other, "11111111-2222-3333-4444-555555555555"))
		if a.MachineID != b.MachineID || c.MachineID == a.MachineID || swapped.MachineID != a.MachineID {
			t.Errorf("got %s, %s, %s, %s", a.MachineID, b.MachineID, c.MachineID, swapped.MachineID)
		}
	})
	t.Run("an operator's machine is met by its declared MAC and stays approved", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		m := added(t, s, laa)
		c := ask(s, identity(laa, uuidA))
		if got := get(t, s, c.MachineID); c.MachineID != m.ID || !got.Approved || got.UUID != uuidA {
			t.Errorf("got %s approved=%v uuid=%s, want %s", c.MachineID, got.Approved, got.UUID, m.ID)
		}
		_, err := s.MachineAdd(t.Context(), store.NewMachine{MACs: []net.HardwareAddr{laa}}, "alice")
		wantKind(t, err, fault.Exists)
	})
	t.Run("a UUID that means nothing is none", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		a := ask(s, identity(laa, "ffffffff-ffff-ffff-ffff-ffffffffffff"))
		b := ask(s, identity(net.HardwareAddr{0x52, 0x54, 0, 0, 0, 11}, "ffffffff-ffff-ffff-ffff-ffffffffffff"))
		if a.MachineID == b.MachineID {
			t.Error("two machines were merged by an empty UUID")
		}
	})
	t.Run("a machine that nobody approved takes no NIC of one that somebody did", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		m := added(t, s, mac(1))
		bootUp(t, s, mac(1), "")
		stranger := bootUp(t, s, mac(2), "")
		facts := inventory.Facts{NICs: []machine.NIC{{MAC: mac(1)}, {MAC: mac(2)}}}
		apply(t, s, stranger.MachineID, 1, store.Report{Collection: &store.Collection{Facts: facts}})
		if got := get(t, s, m.ID); len(got.NICs) != 1 {
			t.Errorf("the approved machine has %d NICs left", len(got.NICs))
		}
		if _, err := s.MachineApprove(t.Context(), stranger.MachineID, "", "alice"); err != nil {
			t.Fatal(err)
		}
		apply(t, s, stranger.MachineID, 2, store.Report{Collection: &store.Collection{Facts: facts}})
		if got := get(t, s, stranger.MachineID); len(got.NICs) != 2 {
			t.Errorf("a NIC that moved: got %d, want 2", len(got.NICs))
		}
	})
	t.Run("a nonce is of one NIC", func(t *testing.T) {
		t.Parallel()
		s := storetest.New(t)
		n := nonce(t, s, mac(1), "")
		_, err := s.SessionClaim(t.Context(), n, key("a"), identity(mac(2), ""))
		wantKind(t, err, fault.Denied)
	})
}

func TestNewBootSupersedesOrders(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	first := bootUp(t, s, mac(1), "")
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
	list, err := s.OrderPendingForAgent(t.Context(), m.ID, first.BootGeneration)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	if err := s.OrderDelivered(t.Context(), list[0].ID, first.BootGeneration); err != nil {
		t.Fatal(err)
	}
	second := bootUp(t, s, mac(1), "")
	if got, _ := s.OrderGet(t.Context(), list[0].ID); got.State != machine.OrderSuperseded {
		t.Errorf("got order %s, want superseded", got.State)
	}
	_, err = s.ReportApply(t.Context(), m.ID, first.BootGeneration, 1, store.Report{})
	wantKind(t, err, fault.Stale)
	wantKind(t, s.OrderDelivered(t.Context(), list[0].ID, first.BootGeneration), fault.Stale)
	snap = claimOne(t, s)
	if len(snap.Orders) != 1 || snap.Machine.BootGeneration != second.BootGeneration {
		t.Errorf("got %d orders, boot %d", len(snap.Orders), snap.Machine.BootGeneration)
	}
}

func TestCertificateCheck(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := bootUp(t, s, mac(1), "")
	wantKind(t, s.CertificateCheck(t.Context(), c.MachineID, 1, key("a")), fault.Denied)
	if err := s.CertificateRecord(t.Context(), c.MachineID, 1, key("a"), "serial-1", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.CertificateCheck(t.Context(), c.MachineID, 1, key("a")); err != nil {
		t.Error(err)
	}
	wantKind(t, s.CertificateCheck(t.Context(), c.MachineID, 1, key("b")), fault.Denied)
	bootUp(t, s, mac(1), "")
	wantKind(t, s.CertificateCheck(t.Context(), c.MachineID, 1, key("a")), fault.Stale)
}

func TestBootTarget(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	if got, err := s.BootTarget(t.Context(), mac(1), ""); err != nil || got.Kind != boot.TargetAgent || got.MachineID != "" {
		t.Errorf("unknown machine: got %+v, %v", got, err)
	}
	m := added(t, s, mac(1))
	if got, err := s.BootTarget(t.Context(), mac(1), "not a uuid"); err != nil || got.Kind != boot.TargetAgent || got.MachineID != string(m.ID) {
		t.Errorf("known machine: got %+v, %v", got, err)
	}
}

// TestNoWindowBesideALiveAgent: nobody gets a nonce for an approved machine
// whose agent is connected; when its controller starts again, the agent counts
// as seen just now, so that it is awaited and not powered off.
func TestNoWindowBesideALiveAgent(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	if err := s.ControllerStart(t.Context(), "c1", "one"); err != nil {
		t.Fatal(err)
	}
	claim := bootUp(t, s, mac(1), "")
	if _, _, err := s.AgentOnline(t.Context(), m.ID, claim.BootGeneration, "c1"); err != nil {
		t.Fatal(err)
	}
	_, err := s.SessionOpen(t.Context(), boot.SessionRequest{MAC: mac(1)})
	wantKind(t, err, fault.Unavailable)
	storetest.ClockHold(t, s, epoch.Add(time.Hour))
	if err := s.ControllerStart(t.Context(), "c1", "one"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, m.ID); got.AgentOnline || !got.AgentSeenAt.Equal(epoch.Add(time.Hour)) {
		t.Errorf("after its controller started again: online %v, seen %v", got.AgentOnline, got.AgentSeenAt)
	}
	nonce(t, s, mac(1), "")
}
