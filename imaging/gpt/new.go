package gpt

import "fmt"

// New is an empty table for a disk of diskBytes, with the usual 128 entries
// and its first usable sector on a MiB boundary.
func New(diskBytes int64, sectorSize int) (*Table, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return nil, fmt.Errorf("new partition table: sector size %d, want 512 or 4096", sectorSize)
	}
	t := &Table{
		SectorSize: sectorSize, DiskGUID: NewGUID(),
		FirstUsableLBA: uint64(alignBytes / sectorSize),
		entriesLBA:     2, entryCount: 128, entrySize: entryBytes,
	}
	if err := t.Relocate(diskBytes); err != nil {
		return nil, fmt.Errorf("new partition table: %w", err)
	}
	return t, nil
}
