package store_test

import (
	"crypto/sha256"
	"net"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

// mac makes a permanent (not locally administered) address.
func mac(n byte) net.HardwareAddr { return net.HardwareAddr{0x00, 0x16, 0x3e, 0, 0, n} }

func key(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:]
}

func nonce(t testing.TB, s *store.Store, addr net.HardwareAddr, uuid string) string {
	t.Helper()
	session, err := s.SessionOpen(t.Context(), boot.SessionRequest{MAC: addr, UUID: uuid, Arch: "x86_64", FirmwareMode: boot.FirmwareUEFI})
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	return session.Nonce
}

func identity(addr net.HardwareAddr, uuid string) store.Identity {
	return store.Identity{BootMAC: addr, NICs: []machine.NIC{{MAC: addr}}, UUID: uuid, BootMode: machine.BootModeUEFI, BootID: "boot-1"}
}

// bootUp enrols one more boot of the machine with this address.
func bootUp(t testing.TB, s *store.Store, addr net.HardwareAddr, uuid string) store.Claim {
	t.Helper()
	n := nonce(t, s, addr, uuid)
	claim, err := s.SessionClaim(t.Context(), n, key(n), identity(addr, uuid))
	if err != nil {
		t.Fatalf("claim a session: %v", err)
	}
	return claim
}

// added is a machine that an operator made known.
func added(t testing.TB, s *store.Store, addr net.HardwareAddr) machine.Machine {
	t.Helper()
	m, err := s.MachineAdd(t.Context(), store.NewMachine{MACs: []net.HardwareAddr{addr}}, "alice")
	if err != nil {
		t.Fatalf("add a machine: %v", err)
	}
	return m
}

func get(t testing.TB, s *store.Store, id machine.ID) machine.Machine {
	t.Helper()
	m, err := s.MachineGet(t.Context(), string(id))
	if err != nil {
		t.Fatalf("read machine %s: %v", id, err)
	}
	return m
}

func commission(t testing.TB, s *store.Store, id machine.ID) machine.Operation {
	t.Helper()
	o, err := s.OperationCreate(t.Context(), id, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, "", "alice")
	if err != nil {
		t.Fatalf("ask for commission: %v", err)
	}
	return o
}

// claimOne leases the one machine that is due.
func claimOne(t testing.TB, s *store.Store) machine.Snapshot {
	t.Helper()
	list, err := s.MachineClaim(t.Context(), "c1", 30*time.Second, 10)
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	if len(list) != 1 {
		t.Fatalf("got %d machines due, want 1", len(list))
	}
	return list[0]
}

func save(t testing.TB, s *store.Store, snap machine.Snapshot, d machine.Decision) {
	t.Helper()
	if err := s.DecisionSave(t.Context(), snap, d); err != nil {
		t.Fatalf("save a decision: %v", err)
	}
}

func wait(d time.Duration, snap machine.Snapshot) *machine.Wait {
	return &machine.Wait{For: "something", Until: snap.Now.Add(d)}
}

func agentOrder(snap machine.Snapshot, step string, attempt int) machine.Order {
	return machine.Order{MachineID: snap.Machine.ID, OperationID: snap.Operation.ID, Step: step, Attempt: attempt, Target: machine.TargetAgent,
		Cause: "because", Job: machine.Job{Commission: &machine.CommissionJob{}}}
}

func bmcOrder(snap machine.Snapshot, step string, action string) machine.Order {
	return machine.Order{MachineID: snap.Machine.ID, OperationID: snap.Operation.ID, Step: step, Attempt: 1, Target: machine.TargetBMC,
		Cause: "because", Job: machine.Job{BMC: &machine.BMCJob{Action: action}}}
}

// wantKind checks an error's kind.
func wantKind(t testing.TB, err error, want fault.Kind) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("got error %v (kind %v), want kind %v", err, fault.KindOf(err), want)
	}
}

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// held is a store whose clock stands still at epoch.
func held(t testing.TB) *store.Store {
	t.Helper()
	s := storetest.New(t)
	storetest.ClockHold(t, s, epoch)
	return s
}
