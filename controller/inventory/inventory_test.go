package inventory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
)

func TestChooseDisk(t *testing.T) {
	t.Parallel()
	const gb = 1_000_000_000
	nvme := machine.Disk{Name: "nvme0n1", Serial: "N1", WWN: "eui.1", SizeBytes: 100 * gb, SectorBytes: 512, Kind: machine.DiskNVMe}
	ssd := machine.Disk{Name: "sda", Serial: "S1", SizeBytes: 50 * gb, SectorBytes: 512, Kind: machine.DiskSSD}
	twin := machine.Disk{Name: "sdb", Serial: "S1", SizeBytes: 60 * gb, SectorBytes: 512, Kind: machine.DiskSSD}
	k4 := machine.Disk{Name: "nvme1n1", Serial: "N4", SizeBytes: 10 * gb, SectorBytes: 4096, Kind: machine.DiskNVMe}
	stick := machine.Disk{Name: "sdz", Serial: "U", SizeBytes: 900 * gb, SectorBytes: 512, Removable: true}
	for _, tc := range []struct {
		name  string
		disks []machine.Disk
		wish  string
		size  uint64
		want  string
		err   string
	}{
		{name: "NVMe first", disks: []machine.Disk{ssd, nvme, stick}, size: gb, want: "N1"},
		{name: "sectors differ, next one", disks: []machine.Disk{k4, ssd}, size: gb, want: "S1"},
		{name: "by WWN", disks: []machine.Disk{ssd, nvme}, wish: "eui.1", size: gb, want: "N1"},
		{name: "too small", disks: []machine.Disk{ssd}, size: 70 * gb, err: "the image needs"},
		{name: "unknown", disks: []machine.Disk{ssd}, wish: "X", size: gb, err: `no disk "X"`},
		{name: "two of one serial", disks: []machine.Disk{ssd, twin}, wish: "S1", size: gb, err: "names 2 disks"},
		{name: "none", disks: []machine.Disk{stick}, size: gb, err: "no disk to write to"},
	} {
		got, err := inventory.ChooseDisk(tc.disks, tc.wish, inventory.Need{SizeBytes: tc.size, SectorBytes: 512})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got %v, want an error with %q", tc.name, err, tc.err)
			}
			continue
		}
		if err != nil || got.Serial != tc.want {
			t.Errorf("%s: got %s, %v, want %s", tc.name, got.Serial, err, tc.want)
		}
	}
}

func TestErasable(t *testing.T) {
	t.Parallel()
	held := &machine.DiskData{Written: true}
	var got []string
	for _, d := range inventory.Erasable([]machine.Disk{
		{Serial: "plain"}, {Serial: "stick", Removable: true}, {Serial: "stick with an image", Removable: true, Data: held}, {Serial: "locked", ReadOnly: true, Data: held},
	}) {
		got = append(got, d.Serial)
	}
	if want := []string{"plain", "stick with an image"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
