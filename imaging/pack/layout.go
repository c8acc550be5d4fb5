package pack

import (
	"errors"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// layout is what the partition table tells about a disk.
type layout struct {
	sectorSize uint32
	boot       manifest.Boot
	warnings   []string
}

// detectLayout reads the table. stated is the sector size that the user gave,
// 0 for none. A disk without a table is accepted with a warning; one whose
// table is damaged or speaks of a larger disk is not.
func detectLayout(disk io.ReaderAt, size int64, stated uint32) (layout, error) {
	l := layout{sectorSize: stated}
	if stated == 0 {
		l.sectorSize = 512
	}
	table, err := gpt.Detect(disk, size)
	switch {
	case err == nil:
		err = l.fromGPT(table, stated)
	case errors.Is(err, gpt.ErrMBR):
		err = l.fromMBR(disk)
	case errors.Is(err, gpt.ErrNoTable):
		l.warn("no partition table was found: only a reboot into this disk can tell whether it starts")
		err = nil
	case errors.Is(err, gpt.ErrTruncated), errors.Is(err, gpt.ErrCorrupt):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return l, err
}

func (l *layout) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

func (l *layout) fromGPT(t *gpt.Table, stated uint32) error {
	found := uint32(t.SectorSize)
	if stated != 0 && stated != found {
		return fmt.Errorf("%w: stated are sectors of %d bytes, its partition table is made for %d", ErrFormat, stated, found)
	}
	l.sectorSize = found
	l.boot.PartitionTable = "gpt"
	if t.FromBackup {
		l.warn("the first partition table is damaged, the one at the end was used")
	}
	if esp, ok := t.ESP(); ok {
		l.boot.ESPPartition = uint32(esp.Number)
	}
	root, ok := t.Root()
	if !ok {
		l.warn("no root partition was found: it will not be grown to the size of the disk")
		return nil
	}
	l.boot.RootPartition = uint32(root.Number)
	if last, _ := t.Last(); last.Number != root.Number {
		l.warn("partition %d lies behind the root partition %d: it cannot be grown to the size of the disk", last.Number, root.Number)
	}
	return nil
}

func (l *layout) fromMBR(disk io.ReaderAt) error {
	mbr, err := gpt.ReadMBR(disk)
	if err != nil {
		return err
	}
	l.boot.PartitionTable = "mbr"
	if root, ok := mbr.Root(); ok {
		l.boot.RootPartition = uint32(root.Number)
	}
	if esp, ok := mbr.ESP(); ok {
		l.boot.ESPPartition = uint32(esp.Number)
	}
	l.warn("the disk has an MBR partition table: no first-boot seed can be added and the root partition cannot be grown")
	return nil
}

// merge lets what the user stated win over what was found.
func (l *layout) merge(stated *manifest.Boot) *manifest.Boot {
	b := l.boot
	if stated != nil {
		b.ESPLoader, b.Kernel, b.Cmdline = stated.ESPLoader, stated.Kernel, stated.Cmdline
		b.Initrds = append([]string(nil), stated.Initrds...)
		if stated.PartitionTable != "" {
			b.PartitionTable = stated.PartitionTable
		}
		if stated.RootPartition != 0 {
			b.RootPartition = stated.RootPartition
		}
		if stated.ESPPartition != 0 {
			b.ESPPartition = stated.ESPPartition
		}
	}
	if stated == nil && b.PartitionTable == "" {
		return nil
	}
	return &b
}
