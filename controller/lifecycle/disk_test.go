package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/lifecycle"
	"github.com/ingot-metal/ingot/controller/machine"
)

// TestFailedDeployIsNotFreeWithoutAnErase: a commission in place of a release
// leaves it in quarantine, and a release from there frees it.
func TestFailedDeployIsNotFreeWithoutAnErase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7)
	w.ask(machine.OperationCommission, commissionWish)
	w.run(time.Hour)
	w.failsLeft = 1
	w.ask(machine.OperationDeploy, deployWish)
	if end := w.run(time.Hour); end.Reason != machine.ReasonDiskError {
		t.Fatalf("got %+v, want a disk error", end)
	}
	w.ask(machine.OperationCommission, commissionWish)
	if end := w.run(time.Hour); end.To != machine.Broken || end.Reason != machine.ReasonDiskHoldsData || !strings.Contains(end.Detail, "disk S1") {
		t.Errorf("commissioned with an owner's data: got %+v, want quarantine that names disk S1", end)
	}
	w.ask(machine.OperationRelease, releaseWish)
	if end := w.run(time.Hour); end.To != machine.Ready || end.Reason != machine.ReasonNone {
		t.Errorf("released: got %+v, want ready", end)
	}
}

// TestDeployAgainNeedsNoErase: the same owner's disks may be written again.
func TestDeployAgainNeedsNoErase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	w.ask(machine.OperationCommission, commissionWish)
	w.run(time.Hour)
	for range 2 {
		w.ask(machine.OperationDeploy, deployWish)
		if end := w.run(2 * time.Hour); end.To != machine.Deployed {
			t.Fatalf("got %+v, want deployed", end)
		}
	}
	if w.m.Disks[0].Data == nil || w.m.Disks[1].Data == nil {
		t.Error("an installed system ran and its disks count as clean")
	}
}

// TestLostDiskIsQuarantined: what went missing with data on it is not released,
// though all that is left is erased.
func TestLostDiskIsQuarantined(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9)
	w.m.LostDisks = []machine.LostDisk{{Serial: "S9", Data: machine.DiskData{OperationID: "op-0", MachineID: w.m.ID, Written: true}}}
	w.m.State, w.m.Outcome = machine.Broken, machine.OutcomeFailed
	w.ask(machine.OperationRelease, releaseWish)
	if end := w.run(time.Hour); end.To != machine.Broken || end.Reason != machine.ReasonDiskLost || !strings.Contains(end.Detail, "S9") {
		t.Errorf("got %+v, want quarantine that names disk S9", end)
	}
}

// TestFreeMachineWithAnOwnersDiskIsSetAside: a disk with data was put into it.
func TestFreeMachineWithAnOwnersDiskIsSetAside(t *testing.T) {
	t.Parallel()
	foreign := machine.Disk{Serial: "S1", Data: &machine.DiskData{OperationID: "op-0", MachineID: "other2", Written: true}}
	for state, want := range map[machine.State]bool{machine.Ready: true, machine.Allocated: true, machine.Deployed: false, machine.Broken: false} {
		d := lifecycle.Decide(machine.Snapshot{Now: time.Now(), Machine: machine.Machine{State: state, Approved: true, Disks: []machine.Disk{foreign}}})
		if got := d.End != nil && d.End.To == machine.Broken; got != want {
			t.Errorf("%s: got %+v, want set aside: %t", state, d, want)
		}
	}
}

// TestSeededLives walks machines through wishes in any order, with failing
// writes, pulled plugs and hanging agents. The world checks that none is free
// with an owner's data, that no state outlasts its deadline, and that no order is
// given twice.
func TestSeededLives(t *testing.T) {
	t.Parallel()
	wishes := map[machine.OperationKind]machine.Wish{
		machine.OperationCommission: commissionWish, machine.OperationDeploy: deployWish, machine.OperationRelease: releaseWish,
		machine.OperationPower: {Power: &machine.PowerWish{Action: "cycle"}},
	}
	kinds := []machine.OperationKind{machine.OperationCommission, machine.OperationDeploy, machine.OperationRelease, machine.OperationPower}
	reached := map[machine.State]int{}
	reasons := map[machine.Reason]int{}
	timeouts := 0
	for seed := range uint64(600) {
		w := newWorld(t, seed)
		for range 12 {
			kind := kinds[w.rand.IntN(len(kinds))]
			if !w.m.Accepts(kind) {
				continue
			}
			w.plugsLeft, w.failsLeft, w.agentHangs = w.rand.IntN(2), w.rand.IntN(2), w.rand.IntN(15) == 0
			w.bmcIgnores, w.restarts = w.rand.IntN(10) == 0, 0
			w.slowBMC = w.rand.IntN(4) == 0
			if w.plugAt = (time.Time{}); w.agentHangs {
				w.plugAt = w.now.Add(time.Duration(w.rand.IntN(60)) * time.Minute)
			}
			w.ask(kind, wishes[kind])
			if w.rand.IntN(8) == 0 {
				w.act()
				w.turn()
				w.act()
				w.op.CancelAsked = !w.op.State.Ended()
			}
			end := w.run(25 * time.Hour)
			reasons[end.Reason]++
			reached[w.m.State]++
		}
		timeouts += w.timeouts
	}
	for _, rule := range machine.Table {
		if rule.State != machine.Allocated && rule.State != machine.Releasing && reached[rule.State] == 0 {
			t.Errorf("no operation ended in %s", rule.State)
		}
	}
	if reasons[machine.ReasonDiskHoldsData] == 0 || timeouts == 0 {
		t.Errorf("got %v with %d timeouts: the interesting ones did not happen", reasons, timeouts)
	}
}
