package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/imaging/gpt"
)

func (d disk) sectorBytes() int64 { return max(d.sector, sectorSize) }

// sfdiskInput is the partition table in the words of sfdisk(8), with ids of its
// own.
func (d disk) sfdiskInput() string {
	text := fmt.Sprintf("label: gpt\nlabel-id: %s\nunit: sectors\n", uuid.NewString())
	for _, p := range d.named() {
		text += fmt.Sprintf("start=%d, size=%d, type=%s, uuid=%s, name=%q\n", p.first, p.sectors, p.kind, uuid.NewString(), p.name)
	}
	return text
}

// namedPartition is one entry of the partition table.
type namedPartition struct {
	partition
	kind, name string
}

func (d disk) named() []namedPartition {
	bios, esp, root := d.partitions()
	return []namedPartition{{bios, typeBIOSBoot, "bios"}, {esp, typeESP, "esp"}, {root, typeRoot, rootLabel}}
}

// writeTable has sfdisk write the partition table. Debian's sfdisk asks a disk
// for its sector size and takes a file's to be 512 bytes, so tables for 4096
// come from our own package.
func (d disk) writeTable(ctx context.Context, r runner, path string) (err error) {
	if d.sectorBytes() == sectorSize {
		return r.run(ctx, d.sfdiskInput(), "sfdisk", "-q", path)
	}
	t, err := gpt.New(d.sizeMiB*mib, int(d.sectorBytes()))
	if err != nil {
		return err
	}
	per := d.sectorBytes() / sectorSize
	for _, p := range d.named() {
		_, err := t.Add(gpt.Partition{
			Type: gpt.MustGUID(p.kind), Name: p.name,
			FirstLBA: uint64(p.first / per), LastLBA: uint64((p.first+p.sectors)/per - 1),
		})
		if err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return t.Write(tableFile{f})
}

// tableFile is a gpt.Disk.
type tableFile struct{ *os.File }

func (f tableFile) Flush() error { return f.Sync() }
