package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFitOnALargerDisk(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		t.Run(fmt.Sprint(sectorSize), func(t *testing.T) {
			t.Parallel()
			const diskSize = 100<<20 + 5*4096
			disk := image(t, 32<<20, sectorSize).grown(diskSize)
			table, err := Read(disk, diskSize, sectorSize)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := table.Root()
			for round := range 2 { // the second time over the first, as on a redeploy
				root, placed, err := table.Fit(diskSize, seed, true)
				if err != nil {
					t.Fatal(err)
				}
				if err := table.Write(disk); err != nil {
					t.Fatal(err)
				}
				if root.LastLBA != placed.FirstLBA-1 || root.FirstLBA != before.FirstLBA || root.ID != before.ID {
					t.Errorf("round %d: root %+v does not reach up to the seed %+v", round, root, placed)
				}
				if got := table.Size(placed); got != seed.SizeBytes || table.Offset(placed)%(1<<20) != 0 {
					t.Errorf("seed has %d bytes at %d, want %d on a MiB", got, table.Offset(placed), seed.SizeBytes)
				}
				if table, err = Read(disk, diskSize, sectorSize); err != nil {
					t.Fatal(err)
				}
				if len(table.Partitions) != 4 || table.FromBackup || table.BackupLBA != diskSize/uint64(sectorSize)-1 {
					t.Errorf("round %d: got %+v", round, table)
				}
			}
			if !bytes.HasPrefix(disk.data, []byte("boot code")) {
				t.Error("boot code is gone")
			}
			protective := binary.LittleEndian.Uint32(disk.data[446+12:])
			if want := uint32(diskSize/sectorSize - 1); protective != want {
				t.Errorf("protective entry covers %d sectors, want %d", protective, want)
			}
		})
	}
}

// After a power cut at any write, with any part of the unflushed writes on the
// medium, old or new table must be readable.
func TestPowerCutLeavesATable(t *testing.T) {
	t.Parallel()
	const diskSize = 24 << 20
	base := image(t, 8<<20, 512).grown(diskSize)
	for budget, whole := 0, false; !whole; budget++ {
		for subset := 0; ; subset++ {
			disk := &memory{data: bytes.Clone(base.data), budget: budget}
			table, err := Read(disk, diskSize, 512)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := table.Fit(diskSize, seed, true); err != nil {
				t.Fatal(err)
			}
			writeErr := table.Write(disk)
			if whole = writeErr == nil; !whole && !errors.Is(writeErr, errPower) {
				t.Fatal(writeErr)
			}
			if subset >= 1<<len(disk.pending) {
				break
			}
			for i, apply := range disk.pending {
				if subset&(1<<i) != 0 {
					apply()
				}
			}
			after, err := Read(disk, diskSize, 512)
			if err != nil {
				t.Fatalf("cut after %d writes, %b of the rest done: %v", budget, subset, err)
			}
			if whole && len(after.Partitions) != 4 {
				t.Errorf("whole write: got %d partitions, want 4", len(after.Partitions))
			}
		}
	}
}

func TestBackupIsReadAndRepairs(t *testing.T) {
	t.Parallel()
	disk := image(t, 32<<20, 512)
	want, err := Read(disk, 32<<20, 512)
	if err != nil {
		t.Fatal(err)
	}
	disk.data[1*512+60] ^= 1
	got, err := Read(disk, 32<<20, 512)
	if err != nil || !got.FromBackup {
		t.Fatalf("got %+v, %v; want the backup", got, err)
	}
	if err := got.Write(disk); err != nil {
		t.Fatal(err)
	}
	repaired, err := Read(disk, 32<<20, 512)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, repaired, cmpopts.IgnoreUnexported(Table{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFitRefusesByName(t *testing.T) {
	t.Parallel()
	const diskSize = 64 << 20
	base := func(t *testing.T) *Table {
		table, err := Read(image(t, 32<<20, 512), 32<<20, 512)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	behind := Partition{Type: TypeLinuxData, Name: "home", FirstLBA: 2048 * 24, LastLBA: 2048*30 - 1}
	for name, tc := range map[string]struct {
		change func(t *Table)
		disk   int64
		grow   bool
		want   error
	}{
		"disk smaller than image": {func(*Table) {}, 16 << 20, true, ErrNoRoom},
		"no room for the seed":    {func(*Table) {}, 33 << 20, true, ErrNoRoom},
		"tiny disk":               {func(*Table) {}, 4096, true, ErrNoRoom},
		"root not last":           {func(t *Table) { t.Partitions[0].LastLBA = 2048*20 - 1; t.Add(behind) }, diskSize, true, ErrRootNotLast},
		"root not last, no grow":  {func(t *Table) { t.Partitions[0].LastLBA = 2048*20 - 1; t.Add(behind) }, diskSize, false, nil},
		"no root":                 {func(t *Table) { t.Partitions = t.Partitions[1:] }, diskSize, true, ErrNoRoot},
		"no root, no grow":        {func(t *Table) { t.Partitions = t.Partitions[1:] }, diskSize, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := base(t)
			tc.change(table)
			before := fmt.Sprint(*table)
			_, _, err := table.Fit(tc.disk, seed, tc.grow)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err != nil && fmt.Sprint(*table) != before {
				t.Errorf("the table changed although Fit refused")
			}
		})
	}
}

func TestDiskBytesForSuffices(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		for _, size := range []int64{32 << 20, 32<<20 + 4096, 33<<20 - 4096} {
			need := DiskBytesFor(size, seed.SizeBytes)
			table, err := Read(image(t, size, sectorSize), size, sectorSize)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := table.Fit(need, seed, true); err != nil {
				t.Errorf("image of %d on disk of %d: %v", size, need, err)
			}
		}
	}
}
