package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/metadata"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func apply(t testing.TB, s *store.Store, id machine.ID, sequence uint64, r store.Report) {
	t.Helper()
	stored, err := s.ReportApply(t.Context(), id, get(t, s, id).BootGeneration, sequence, r)
	if err != nil {
		t.Fatalf("report %d: %v", sequence, err)
	}
	if stored < sequence {
		t.Fatalf("report %d: got %d stored", sequence, stored)
	}
}

func TestReportSequence(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := bootUp(t, s, mac(1), "")
	line := func(text string) store.Report {
		return store.Report{Events: []machine.Event{{Kind: machine.EventAgent, Text: text}}}
	}
	apply(t, s, c.MachineID, 1, line("one"))
	_, err := s.ReportApply(t.Context(), c.MachineID, 1, 3, line("three"))
	wantKind(t, err, fault.Conflict)
	var wg sync.WaitGroup
	for range 8 { // the answer was lost and the report sent again, over two streams
		wg.Go(func() {
			if stored, err := s.ReportApply(t.Context(), c.MachineID, 1, 2, line("two")); err != nil || stored != 2 {
				t.Errorf("got %d, %v", stored, err)
			}
		})
	}
	wg.Wait()
	apply(t, s, c.MachineID, 1, line("one again"))
	list, err := s.EventList(t.Context(), c.MachineID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list[1:] {
		got = append(got, e.Text)
	}
	if d := cmp.Diff(got, []string{"one", "two"}); d != "" {
		t.Errorf("got - want +\n%s", d)
	}
	_, err = s.ReportApply(t.Context(), c.MachineID, 2, 1, line("x"))
	wantKind(t, err, fault.Stale)
	_, err = s.ReportApply(t.Context(), c.MachineID, 1, 3, store.Report{Collection: &store.Collection{Payload: make([]byte, 4<<20+1)}})
	wantKind(t, err, fault.Invalid)
}

func TestCollectionKeepsIDs(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := bootUp(t, s, mac(1), uuidA)
	facts := func(disks []machine.Disk, nics ...machine.NIC) store.Report {
		return store.Report{Collection: &store.Collection{Payload: []byte("whole"), Facts: inventory.Facts{
			Vendor: "Maker", MemoryBytes: 1 << 34, CPUThreads: 8, Disks: disks, NICs: nics}}}
	}
	a := machine.Disk{Name: "sda", Serial: "S1", WWN: "W1", SizeBytes: 1000, Kind: machine.DiskSSD}
	b := machine.Disk{Name: "sdb", ByPath: "pci-1", SizeBytes: 2000}
	apply(t, s, c.MachineID, 1, facts([]machine.Disk{a, b}, machine.NIC{Name: "eth0", MAC: mac(1), BootNIC: true}, machine.NIC{Name: "eth1", MAC: mac(2)}))
	before := get(t, s, c.MachineID)
	a.Name, b.Name = "sdb", "sda"
	apply(t, s, c.MachineID, 2, facts([]machine.Disk{b}, machine.NIC{Name: "eth0", MAC: mac(1)}))
	if m := get(t, s, c.MachineID); len(m.Disks) != 1 || len(m.NICs) != 1 {
		t.Errorf("got %d disks and %d NICs, want what is present", len(m.Disks), len(m.NICs))
	}
	apply(t, s, c.MachineID, 3, facts([]machine.Disk{b, a}, machine.NIC{Name: "eth0", MAC: mac(1), BootNIC: true}, machine.NIC{Name: "eth1", MAC: mac(2)}))
	after := get(t, s, c.MachineID)
	ignore := cmpopts.IgnoreFields(machine.Disk{}, "Name")
	byID := cmpopts.SortSlices(func(x, y machine.Disk) bool { return x.ID < y.ID })
	if d := cmp.Diff(after.Disks, before.Disks, ignore, byID); d != "" {
		t.Errorf("disks after they came back: got - want +\n%s", d)
	}
	if d := cmp.Diff(after.NICs, before.NICs); d != "" {
		t.Errorf("NICs: got - want +\n%s", d)
	}
	if after.Vendor != "Maker" || after.MemoryBytes != 1<<34 || after.CPUThreads != 8 || after.UUID != uuidA {
		t.Errorf("got %+v", after)
	}
	if payload, _, err := s.CollectionGet(t.Context(), c.MachineID); err != nil || string(payload) != "whole" {
		t.Errorf("got %q, %v", payload, err)
	}
}

// A machine may say anything; what no column takes must neither stick in the
// agent's queue for ever nor break a turn.
func TestHostileFacts(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := bootUp(t, s, mac(1), "")
	most := ^uint64(0)
	apply(t, s, c.MachineID, 1, store.Report{At: time.Unix(1<<60, 0), Collection: &store.Collection{Facts: inventory.Facts{
		UUID: "no uuid", Vendor: "a\x00b\xff", MemoryBytes: most, CPUThreads: ^uint32(0), NICs: []machine.NIC{{MAC: nil}, {MAC: mac(1), SpeedBitsPerSecond: most}},
		Disks: []machine.Disk{{Kind: "?", SizeBytes: most, SectorBytes: ^uint32(0), Serial: "\x00"}}, Warnings: []machine.Warning{{Code: "\x00"}}}}})
	if m := get(t, s, c.MachineID); len(m.Disks) != 1 || m.Disks[0].SizeBytes != most>>1 {
		t.Errorf("got %+v", m.Disks)
	}
	_, err := s.ReportApply(t.Context(), c.MachineID, 1, 2, store.Report{Test: &store.TestResult{Outcome: "passed"}})
	wantKind(t, err, fault.Invalid) // a test without a name
	_, err = s.OperationGet(t.Context(), "op-\x00")
	wantKind(t, err, fault.Invalid)
}

func TestReportEndsAnOrderOnce(t *testing.T) {
	t.Parallel()
	s := held(t)
	m := added(t, s, mac(1))
	c := bootUp(t, s, mac(1), "")
	commission(t, s, m.ID)
	snap := claimOne(t, s)
	save(t, s, snap, machine.Decision{Go: &machine.Go{To: machine.Commissioning}, Orders: []machine.Order{agentOrder(snap, "commission", 1)}})
	list, err := s.OrderPendingForAgent(t.Context(), m.ID, c.BootGeneration)
	if err != nil || len(list) != 1 || list[0].Job.Commission == nil {
		t.Fatalf("got %+v, %v", list, err)
	}
	if err := s.OrderDelivered(t.Context(), list[0].ID, c.BootGeneration); err != nil {
		t.Fatal(err)
	}
	if list, _ = s.OrderPendingForAgent(t.Context(), m.ID, c.BootGeneration); len(list) != 1 {
		t.Fatal("an order that was delivered and not finished is not given again")
	}
	good := store.Report{OrderID: list[0].ID, Result: &store.OrderResult{State: machine.OrderSucceeded, Result: machine.Result{Tests: &machine.TestTally{Passed: 3}}}}
	apply(t, s, m.ID, 1, good)
	bad := store.Report{OrderID: list[0].ID, Result: &store.OrderResult{State: machine.OrderFailed, Reason: machine.ReasonDiskError}}
	apply(t, s, m.ID, 2, bad)
	apply(t, s, m.ID, 3, store.Report{OrderID: 987654, Result: &store.OrderResult{State: machine.OrderFailed}})
	snap = claimOne(t, s)
	if o := snap.Orders[0]; o.State != machine.OrderSucceeded || o.Result.Tests.Passed != 3 {
		t.Errorf("got %+v", o)
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	s := held(t)
	c := bootUp(t, s, mac(1), "")
	for _, id := range []string{"c1", "c2"} {
		if err := s.ControllerStart(t.Context(), id, id); err != nil {
			t.Fatal(err)
		}
	}
	old, _, err := s.AgentOnline(t.Context(), c.MachineID, 1, "c1")
	if err != nil {
		t.Fatal(err)
	}
	newer, _, err := s.AgentOnline(t.Context(), c.MachineID, 1, "c2")
	if err != nil || newer <= old {
		t.Fatalf("got stream %d after %d, %v", newer, old, err)
	}
	if err := s.AgentOffline(t.Context(), c.MachineID, 1, old); err != nil {
		t.Fatal(err)
	}
	if !get(t, s, c.MachineID).AgentOnline {
		t.Error("the end of an older stream took the newer one offline")
	}
	storetest.ClockHold(t, s, epoch.Add(time.Minute)) // c2 fell silent
	if get(t, s, c.MachineID).AgentOnline {
		t.Error("an agent of a silent controller counts as online")
	}
	if err := s.ControllerHeartbeat(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if at, err := s.AgentStanding(t.Context(), c.MachineID); err != nil || at.Online {
		t.Errorf("got online=%v, %v", at.Online, err)
	}
	_, _, err = s.AgentOnline(t.Context(), c.MachineID, 7, "c1")
	wantKind(t, err, fault.Stale)
}

// deployed brings a machine to a written disk and gives its operation.
func written(t *testing.T, s *store.Store) (machine.Machine, machine.Operation) {
	t.Helper()
	image := store.Image{Digest: digest('a'), Name: "debian", Architecture: "amd64", Kind: "disk", SizeBytes: 1, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := s.ImageRecord(t.Context(), image, "c1", "alice"); err != nil {
		t.Fatal(err)
	}
	m := added(t, s, mac(1))
	bootUp(t, s, mac(1), "")
	storetest.Exec(t, s, "UPDATE machine SET state = 'ready'")
	wish := &machine.DeployWish{ImageDigest: image.Digest, ImageName: "debian", Disk: "S1", InstanceID: "i-1", ReportToken: "very secret", Proof: machine.ProofReport}
	o, err := s.OperationCreate(t.Context(), m.ID, machine.OperationDeploy, machine.Wish{Deploy: wish}, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Deploying}})
	snap := claimOne(t, s)
	if snap.Operation.Wish.Deploy.ReportToken != "very secret" {
		t.Fatalf("got wish %+v", snap.Operation.Wish.Deploy)
	}
	save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Deployed: &machine.Deployment{
		OperationID: o.ID, ImageDigest: image.Digest, ImageName: "debian", InstanceID: "i-1", LoaderPath: "/EFI/BOOT/BOOTX64.EFI",
		LoaderPartitionGUID: "g", BootPath: "checked", Proof: machine.ProofReport}})
	return m, o
}

func digest(c byte) string {
	out := make([]byte, 64)
	for i := range out {
		out[i] = c
	}
	return string(out)
}

func TestReportAccept(t *testing.T) {
	t.Parallel()
	s := held(t)
	m, o := written(t, s)
	target, err := s.BootTarget(t.Context(), mac(1), "")
	if err != nil || target.Kind != "disk" || target.Disk.LoaderPath != "/EFI/BOOT/BOOTX64.EFI" {
		t.Errorf("got target %+v, %v, want the disk", target, err)
	}
	r := metadata.Report{MachineID: string(m.ID), InstanceID: "i-1", Kernel: "6.1\x00", MACs: []string{"\xff"}}
	for name, bad := range map[string]metadata.Report{
		"other machine": {MachineID: "zzzzzz", InstanceID: "i-1"}, "other instance": {MachineID: string(m.ID), InstanceID: "i-0"},
	} {
		if err := s.ReportAccept(t.Context(), "very secret", bad); !errors.Is(err, metadata.ErrUnknownToken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := s.ReportAccept(t.Context(), "guess", r); !errors.Is(err, metadata.ErrUnknownToken) {
		t.Errorf("got %v for a guess", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.ReportAccept(t.Context(), "very secret", r); err != nil {
				t.Errorf("the same report again: %v", err)
			}
		})
	}
	wg.Wait()
	r.Kernel = "6.2"
	if err := s.ReportAccept(t.Context(), "very secret", r); !errors.Is(err, metadata.ErrUsed) {
		t.Errorf("another report: got %v, want ErrUsed", err)
	}
	snap := claimOne(t, s) // it nudges
	if d := snap.Machine.Deployed; d == nil || !d.ProvenAt.Equal(epoch) {
		t.Fatalf("got %+v", d)
	}
	// A decision made before the report arrived cannot unmake it.
	stale := *snap.Machine.Deployed
	stale.ProvenAt = time.Time{}
	save(t, s, snap, machine.Decision{End: &machine.End{To: machine.Deployed, Outcome: machine.OutcomeNone}, Deployed: &stale})
	if d := get(t, s, m.ID).Deployed; d.ProvenAt.IsZero() {
		t.Error("the proof was lost")
	}
	wantKind(t, s.ImageDelete(t.Context(), digest('a'), "alice"), fault.Precondition)
	var clear int
	storetest.Row(t, s, "SELECT count(*) FROM operation o WHERE position('very secret' IN o::text) > 0 OR position(encode('very secret', 'hex') IN o::text) > 0", nil, &clear)
	if clear != 0 || o.Wish.Deploy == nil {
		t.Error("the report token is in the database in clear")
	}
}

func TestEraseForgetsTheDeployment(t *testing.T) {
	t.Parallel()
	s := held(t)
	m, _ := written(t, s)
	_ = s.MachineNudge(t.Context(), m.ID)
	save(t, s, claimOne(t, s), machine.Decision{End: &machine.End{To: machine.Deployed, Outcome: machine.OutcomeNone}})
	_, err := s.OperationCreate(t.Context(), m.ID, machine.OperationRelease, machine.Wish{Release: &machine.ReleaseWish{DiskSerials: []string{"S1"}}}, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Releasing}})
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Erasing}})
	receipt := machine.EraseReceipt{DiskSerial: "S1", Method: "overwrite", StartedAt: epoch, EndedAt: epoch.Add(time.Hour), Verified: true}
	save(t, s, claimOne(t, s), machine.Decision{End: &machine.End{To: machine.Ready, Outcome: machine.OutcomeNone}, ForgetDeployment: true, Receipts: []machine.EraseReceipt{receipt}})
	if got := get(t, s, m.ID); got.State != machine.Ready || got.Deployed != nil {
		t.Errorf("got %s, %+v", got.State, got.Deployed)
	}
	list, err := s.ReceiptList(t.Context(), m.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	if d := cmp.Diff(list[0].EraseReceipt, receipt); d != "" {
		t.Errorf("got - want +\n%s", d)
	}
	if err := s.ImageDelete(t.Context(), digest('a'), "alice"); err != nil {
		t.Error(err)
	}
}
