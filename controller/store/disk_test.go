package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func aDisk(serial string) machine.Disk {
	return machine.Disk{Name: "sda", Serial: serial, Model: "M", SizeBytes: 1 << 30, SectorBytes: 512, Kind: machine.DiskSSD}
}

// collected stores an inventory with these disks, as the next report.
func collected(t *testing.T, s *store.Store, id machine.ID, disks ...machine.Disk) {
	t.Helper()
	at, err := s.AgentStanding(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, id, at.Stored+1, store.Report{Collection: &store.Collection{Facts: inventory.Facts{Architecture: "amd64", Disks: disks}}})
}

// ordered is a free machine with disks S1 and S2 to which a deploy on S1 was
// ordered; the order is not sent yet.
func ordered(t *testing.T, s *store.Store) (machine.ID, machine.Order) {
	t.Helper()
	image := store.Image{Digest: digest('a'), Name: "debian", Architecture: "amd64", Kind: "disk", SizeBytes: 1, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := s.ImageRecord(t.Context(), image, "c1", "alice"); err != nil {
		t.Fatal(err)
	}
	m := added(t, s, mac(1))
	bootUp(t, s, mac(1), "")
	collected(t, s, m.ID, aDisk("S1"), aDisk("S2"))
	storetest.Exec(t, s, "UPDATE machine SET state = 'ready'")
	wish := &machine.DeployWish{ImageDigest: image.Digest, ImageName: "debian", Disk: "S1"}
	if _, err := s.OperationCreate(t.Context(), m.ID, machine.OperationDeploy, machine.Wish{Deploy: wish}, "", "alice"); err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Deploying}})
	snap := claimOne(t, s)
	order := agentOrder(snap, "deploy", 1)
	order.Job = machine.Job{Deploy: wish}
	save(t, s, snap, machine.Decision{Wait: wait(time.Hour, snap), Orders: []machine.Order{order}})
	list, err := s.OrderPendingForAgent(t.Context(), m.ID, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	return m.ID, list[0]
}

// dirty lists the disks that hold data, those that went missing with a "-".
func dirty(t *testing.T, s *store.Store, id machine.ID) string {
	t.Helper()
	var names []string
	m := get(t, s, id)
	for _, d := range m.Disks {
		if d.Data != nil {
			names = append(names, d.Key())
		}
	}
	for _, d := range m.LostDisks {
		names = append(names, "-"+d.Key())
	}
	return strings.Join(names, " ")
}

func wantDirty(t *testing.T, s *store.Store, id machine.ID, want, when string) {
	t.Helper()
	if got := dirty(t, s, id); got != want {
		t.Errorf("%s: got %q holding data, want %q", when, got, want)
	}
}

// A disk holds data from the moment at which the order may be sent.
func TestDiskHoldsDataOnceItsOrderIsSent(t *testing.T) {
	t.Parallel()
	s := held(t)
	id, o := ordered(t, s)
	wantDirty(t, s, id, "", "before the order is sent")
	for range 2 {
		if err := s.OrderDelivered(t.Context(), o.ID, 1); err != nil {
			t.Fatal(err)
		}
	}
	wantDirty(t, s, id, "S1", "once it is sent")
	wantKind(t, s.OrderDelivered(t.Context(), o.ID, 7), fault.Stale)
	result := &store.OrderResult{State: machine.OrderSucceeded, Result: machine.Result{Deploy: &machine.DeployResult{DiskSerial: "S1"}}}
	apply(t, s, id, 2, store.Report{OrderID: o.ID, Result: result})
	wantDirty(t, s, id, "S1 S2", "an installed system may run")
	if d := get(t, s, id).Disks; !d[0].Data.Written || d[1].Data.Written || d[1].Data.OperationID != o.OperationID {
		t.Errorf("got %+v and %+v, want the first one written", d[0].Data, d[1].Data)
	}
}

// failedDeploy is a machine whose deploy was sent and failed.
func failedDeploy(t *testing.T, s *store.Store) machine.ID {
	t.Helper()
	id, o := ordered(t, s)
	if err := s.OrderDelivered(t.Context(), o.ID, 1); err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOneAfterNudge(t, s, id), machine.Decision{End: &machine.End{To: machine.Deploying, Outcome: machine.OutcomeFailed, Reason: machine.ReasonDiskError}})
	return id
}

func claimOneAfterNudge(t *testing.T, s *store.Store, id machine.ID) machine.Snapshot {
	t.Helper()
	if err := s.MachineNudge(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return claimOne(t, s)
}

// No decision frees a machine with data on a disk, whatever the engine thinks;
// receipts that prove the erase do, others do not.
func TestNoDecisionFreesAMachineWithData(t *testing.T) {
	t.Parallel()
	s := held(t)
	id := failedDeploy(t, s)
	if w := get(t, s, id).Warnings; len(w) != 1 || w[0].Code != string(machine.ReasonDiskHoldsData) || !strings.Contains(w[0].Text, "S1") {
		t.Errorf("got warnings %v, want one that names S1", w)
	}
	if _, err := s.OperationCreate(t.Context(), id, machine.OperationRelease, machine.Wish{Release: &machine.ReleaseWish{DiskSerials: []string{"S1"}}}, "", "alice"); err != nil {
		t.Fatal(err)
	}
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Releasing}})
	save(t, s, claimOne(t, s), machine.Decision{Go: &machine.Go{To: machine.Erasing}})
	snap := claimOne(t, s)
	free := func(r ...machine.EraseReceipt) error {
		return s.DecisionSave(t.Context(), snap, machine.Decision{End: &machine.End{To: machine.Ready, Outcome: machine.OutcomeNone}, Receipts: r})
	}
	wantKind(t, free(), fault.Invalid)
	wantKind(t, free(machine.EraseReceipt{DiskSerial: "S1"}), fault.Invalid)
	wantKind(t, free(machine.EraseReceipt{DiskSerial: "S2", Verified: true}), fault.Invalid)
	if err := free(machine.EraseReceipt{DiskSerial: "S1", Verified: true}); err != nil {
		t.Fatal(err)
	}
	wantDirty(t, s, id, "", "after the erase")
	if got := get(t, s, id); got.State != machine.Ready {
		t.Errorf("got %s, want ready", got.State)
	}
}

// A disk takes what it holds along: into another machine, out of one, and past
// the end of its machine.
func TestDataFollowsTheDisk(t *testing.T) {
	t.Parallel()
	s := held(t)
	id := failedDeploy(t, s)
	other := added(t, s, mac(2))
	bootUp(t, s, mac(2), "")
	same := aDisk("S1")
	same.Model = "another maker's"
	collected(t, s, other.ID, same)
	wantDirty(t, s, other.ID, "", "another maker's disk of the same serial")
	collected(t, s, id, aDisk("S2"))
	wantDirty(t, s, id, "-S1", "pulled out")
	collected(t, s, other.ID, aDisk("S1"))
	wantDirty(t, s, other.ID, "S1", "put into another machine")
	wantDirty(t, s, id, "", "found elsewhere")
	storetest.Exec(t, s, "UPDATE machine SET state = 'ready' WHERE id = $1", other.ID)
	_, err := s.OperationCreate(t.Context(), other.ID, machine.OperationDeploy, machine.Wish{Deploy: &machine.DeployWish{ImageDigest: digest('a')}}, "", "alice")
	wantKind(t, err, fault.Precondition)
	if err := s.MachineDelete(t.Context(), other.ID, true, "alice"); err != nil {
		t.Fatal(err)
	}
	again := added(t, s, mac(2))
	bootUp(t, s, mac(2), "")
	collected(t, s, again.ID, aDisk("S1"))
	wantDirty(t, s, again.ID, "S1", "its machine was deleted and came back")
}

// A stranger that claims a disk's serial takes nothing away.
func TestStrangerTakesNoDisk(t *testing.T) {
	t.Parallel()
	s := held(t)
	id := failedDeploy(t, s)
	stranger := bootUp(t, s, mac(9), "")
	collected(t, s, stranger.MachineID, aDisk("S1"))
	collected(t, s, id, aDisk("S2"))
	wantDirty(t, s, id, "-S1", "claimed by a machine that nobody approved")
}

// An operator's word ends it, for the disk that it names, and is kept.
func TestOperatorVouches(t *testing.T) {
	t.Parallel()
	s := held(t)
	id := failedDeploy(t, s)
	collected(t, s, id, aDisk("S2"))
	vouch := func(disk string) error {
		_, err := s.OperationCreate(t.Context(), id, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{Vouched: []string{disk}}}, "", "alice")
		return err
	}
	wantKind(t, vouch("S2"), fault.Precondition)
	wantDirty(t, s, id, "-S1", "after a word for another disk")
	if err := vouch("S1"); err != nil {
		t.Fatal(err)
	}
	wantDirty(t, s, id, "", "after the operator's word")
	var lines int
	storetest.Row(t, s, "SELECT count(*) FROM audit WHERE action = 'disk.vouch' AND actor = 'alice' AND subject = $1 AND detail->>'disk' = 'S1'", []any{id}, &lines)
	if lines != 1 {
		t.Errorf("got %d audit lines, want 1", lines)
	}
}
