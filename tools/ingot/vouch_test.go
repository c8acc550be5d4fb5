package main

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/operator"
)

// dirtyMachine has one disk that holds data, a clean one, and misses one.
func dirtyMachine() *operator.Machine {
	data := &operator.DiskData{Since: timestamppb.Now(), OperationId: "op-old", MachineId: "aaaaaa", Written: true}
	return &operator.Machine{
		Id: "bbbbbb", Hostname: "web1",
		Disks:     []*operator.Disk{{Name: "sda", Serial: "S1", HoldsData: data}, {Name: "sdb", Serial: "S2"}},
		LostDisks: []*operator.LostDisk{{Wwn: "W3", Model: "Gone", HoldsData: &operator.DiskData{OperationId: "op-old", MachineId: "aaaaaa"}}},
	}
}

func TestMachineShowsWhatDisksHold(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	(&cli{out: &out}).machineFacts(dirtyMachine())
	for _, want := range []string{"written by op-old in aaaaaa", "MISSING", "W3", "within reach of op-old in aaaaaa"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
