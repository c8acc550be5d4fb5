package writer

import (
	"errors"
	"fmt"
)

// wipeEnd is zeroed at both ends of a disk: partition tables and their backups,
// filesystem superblocks at the start; the last 64 KiB of MD 0.90 and 1.0, the
// last labels of ZFS (512 KiB), DDF and IMSM RAID metadata at the end.
const wipeEnd = 1 << 20

// wipeSpots are further places in the middle where tools look for superblocks,
// each 4 KiB from there on.
var wipeSpots = []int64{
	1 << 20, 2 << 20, 4 << 20, // second header of LUKS2 by size of the first; VMFS
	64 << 20, 256 << 30, // second and third superblock of Btrfs
}

// WipeSignatures zeroes what could make somebody take the disk for part of an
// array, a pool or an old system: both ends and the known places between. It
// writes the zeros as data, since nobody reads back what lies beyond the image,
// and flushes. Call it before Write, which puts the image's own start down again.
func WipeSignatures(t Target) error {
	if err := wipe(t); err != nil {
		return fmt.Errorf("wipe signatures: %w", err)
	}
	return nil
}

func wipe(t Target) (err error) {
	zeros, err := newAlignedBuffers(1, wipeEnd, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, zeros.release()) }()
	sector := int64(t.SectorSize())
	size := t.Size() / sector * sector
	spans := [][2]int64{{0, wipeEnd}, {max(size-wipeEnd, 0), wipeEnd}}
	for _, spot := range wipeSpots {
		spans = append(spans, [2]int64{spot, 4096})
	}
	for _, span := range spans {
		if err := writeZeros(t, zeros.each[0], span[0], min(span[1], size-span[0])); err != nil {
			return err
		}
	}
	return t.Flush()
}
