package deploy

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

// TestSwappedDisk: between the checks and the first write, the kernel's name of
// the target goes to another disk. Nothing is written, there or elsewhere.
func TestSwappedDisk(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	b := newBench(t, im)
	twin := b.add("twin", 32<<20, 0)
	splice(t, twin, b.copyOf(im), 0)
	b.order.WipeConflicting = true
	before := [][]byte{read(t, b.disks[0].Path), read(t, twin)}
	listed := 0
	b.machine.Disks = func() ([]disk.Disk, error) {
		if listed++; listed == 1 {
			return b.disks, nil
		}
		other := b.disks[0]
		other.Info = proto.CloneOf(other.Info)
		other.Info.Serial = "stranger"
		return []disk.Disk{other, b.disks[1]}, nil
	}
	result, _ := b.deploy(1)
	if got, want := job.Reason(result.Reason), job.ReasonDiskGone; got != want {
		t.Errorf("got %s (%s), want %s", got, result.Detail, want)
	}
	for i, path := range []string{b.disks[0].Path, twin} {
		if !bytes.Equal(read(t, path), before[i]) {
			t.Errorf("%s was written to", path)
		}
	}
}

// TestSeedOfAnotherMachine: a volume on a storage network may be what another
// machine runs from.
func TestSeedOfAnotherMachine(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript))
	far := b.add("far", 32<<20, 0)
	b.disks[1].Info.Transport = "iscsi"
	splice(t, far, seedOf(t), 0)
	before := read(t, far)
	result, _ := b.deploy(1)
	if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || len(result.Warnings) != 1 ||
		result.Warnings[0].Code != "old_seed_not_removed" || !strings.Contains(result.Warnings[0].Text, "another machine") {
		t.Errorf("got %v, want success with one warning", result)
	}
	if !bytes.Equal(read(t, far), before) {
		t.Error("the other machine's disk was written to")
	}
}
