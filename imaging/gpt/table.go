package gpt

import (
	"errors"
	"fmt"
	"slices"
)

// Errors by which a caller decides. All others mean that the disk could not be
// read or written.
var (
	ErrNoTable     = errors.New("no partition table")
	ErrMBR         = errors.New("MBR partition table, not a GPT")
	ErrCorrupt     = errors.New("damaged partition table")
	ErrTruncated   = errors.New("partition table made for a larger disk (is the image truncated?)")
	ErrNoRoot      = errors.New("no root partition found")
	ErrRootNotLast = errors.New("root partition is not the last one on the disk")
	ErrNoRoom      = errors.New("not enough room on the disk")
)

// Partition is one used entry of a Table. LBAs count sectors of the table's
// SectorSize, both ends included.
type Partition struct {
	Number     int // slot in the entry array, counted from 1, as Linux names it
	Type       GUID
	ID         GUID // unique; Linux shows it as PARTUUID
	FirstLBA   uint64
	LastLBA    uint64
	Attributes uint64
	Name       string // at most 36 UTF-16 units
}

// Sectors is the length of the partition.
func (p Partition) Sectors() uint64 { return p.LastLBA - p.FirstLBA + 1 }

// Table is a GPT in memory. Nothing reaches the disk before Write.
type Table struct {
	SectorSize     int
	DiskSectors    uint64 // of the disk that it was read from, or moved to by Relocate
	DiskGUID       GUID
	FirstUsableLBA uint64
	LastUsableLBA  uint64
	BackupLBA      uint64 // where the backup header lies, or is to lie
	Partitions     []Partition
	// FromBackup says that the primary table was damaged or absent and the
	// backup was read instead. Write repairs both.
	FromBackup bool

	entriesLBA uint64 // of the primary entry array
	entryCount int
	entrySize  int
}

// Offset and Size of a partition in bytes on the disk.
func (t *Table) Offset(p Partition) int64 { return int64(p.FirstLBA) * int64(t.SectorSize) }

// Size of a partition in bytes.
func (t *Table) Size(p Partition) int64 { return int64(p.Sectors()) * int64(t.SectorSize) }

// ByName finds the first partition with that name.
func (t *Table) ByName(name string) (Partition, bool) {
	return t.find(func(p Partition) bool { return p.Name == name })
}

// ESP finds the EFI system partition.
func (t *Table) ESP() (Partition, bool) {
	return t.find(func(p Partition) bool { return p.Type == TypeESP })
}

// Root finds the root partition: the one that the Discoverable Partitions
// Specification marks as a root, whatever its architecture; without one, the
// largest partition of the generic Linux type (that sets a separate /boot
// aside). LVM, RAID and LUKS partitions are not roots that could be grown.
func (t *Table) Root() (Partition, bool) {
	roots := []GUID{TypeRootAMD64, TypeRootARM64, TypeRootRISCV, TypeRootPPC64, TypeRootS390X}
	if p, ok := t.find(func(p Partition) bool { return slices.Contains(roots, p.Type) }); ok {
		return p, true
	}
	var best Partition
	found := false
	for _, p := range t.Partitions {
		if p.Type == TypeLinuxData && (!found || p.Sectors() > best.Sectors()) {
			best, found = p, true
		}
	}
	return best, found
}

func (t *Table) find(match func(Partition) bool) (Partition, bool) {
	i := slices.IndexFunc(t.Partitions, match)
	if i < 0 {
		return Partition{}, false
	}
	return t.Partitions[i], true
}

// Last is the partition that ends furthest back on the disk. It says nothing
// about numbers: Debian's cloud images have their root as number 1 behind 14
// and 15.
func (t *Table) Last() (Partition, bool) {
	if len(t.Partitions) == 0 {
		return Partition{}, false
	}
	return slices.MaxFunc(t.Partitions, func(a, b Partition) int {
		return compare(a.LastLBA, b.LastLBA)
	}), true
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (t *Table) entrySectors() uint64 {
	bytes := uint64(t.entryCount) * uint64(t.entrySize)
	return (bytes + uint64(t.SectorSize) - 1) / uint64(t.SectorSize)
}

// check refuses what no honest tool writes: partitions that end before they
// start, lie outside the usable range, overlap, or share a number.
func (t *Table) check() error {
	byStart := slices.Clone(t.Partitions)
	slices.SortFunc(byStart, func(a, b Partition) int { return compare(a.FirstLBA, b.FirstLBA) })
	taken := make(map[int]bool, len(byStart))
	for i, p := range byStart {
		if p.Number < 1 || p.Number > t.entryCount || taken[p.Number] {
			return fmt.Errorf("%w: partition number %d twice or not from 1 to %d", ErrCorrupt, p.Number, t.entryCount)
		}
		taken[p.Number] = true
		if p.FirstLBA > p.LastLBA || p.FirstLBA < t.FirstUsableLBA || p.LastLBA > t.LastUsableLBA {
			return fmt.Errorf("%w: partition %d spans LBA %d to %d, usable are %d to %d",
				ErrCorrupt, p.Number, p.FirstLBA, p.LastLBA, t.FirstUsableLBA, t.LastUsableLBA)
		}
		if i > 0 && p.FirstLBA <= byStart[i-1].LastLBA {
			return fmt.Errorf("%w: partitions %d and %d overlap", ErrCorrupt, byStart[i-1].Number, p.Number)
		}
	}
	return nil
}
