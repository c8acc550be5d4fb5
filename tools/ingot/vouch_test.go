package main

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func (c *controller) MachineCommission(_ context.Context, r *operator.MachineCommissionRequest) (*operator.Operation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vouched = append(c.vouched, r.GetVouchedDisks()...)
	return &operator.Operation{Id: "op-1", Kind: "commission", MachineId: "bbbbbb"}, nil
}

// TestVouching: nobody vouches for a disk without having been shown what it may
// hold, unless he says so.
func TestVouching(t *testing.T) {
	t.Parallel()
	c, ingot := serve(t)
	for _, tc := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"--vouch", "S1"}, 2, "written by op-old in aaaaaa"},
		{[]string{"--vouch", "S1"}, 2, "--yes"},
		{[]string{"--vouch", "W3"}, 2, "within reach of op-old in aaaaaa"},
		{[]string{"--vouch", "S2"}, 1, "none of those"},
		{[]string{"--vouch", "S1", "--vouch", "S9"}, 1, "\"S9\""},
		{[]string{"--vouch", "S1", "--vouch", "W3", "--yes"}, 0, ""},
		{nil, 0, ""},
	} {
		code, _, errOut := ingot(append([]string{"machine", "commission", "dirty"}, tc.args...)...)
		if code != tc.code || !strings.Contains(errOut, tc.word) {
			t.Errorf("%v: %d %q, want %d and %q", tc.args, code, errOut, tc.code, tc.word)
		}
	}
	if d := cmp.Diff(c.vouched, []string{"S1", "W3"}); d != "" {
		t.Errorf("vouched for: got - want +\n%s", d)
	}
}
