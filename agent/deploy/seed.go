package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/deploy/fat"
	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/gpt"
)

// plantSeed writes the first-boot data byte for byte, reads it back, and removes
// the seeds that earlier deploys left on other disks: the system takes the first
// that it finds.
func (d *deploy) plantSeed(_ context.Context, run *job.Run) error {
	volume, err := d.seedVolume(d.seed)
	if err != nil {
		return err
	}
	offset := d.table.Offset(d.seed)
	if _, err := d.device.WriteAt(volume, offset); err != nil {
		return job.Fail(job.ReasonDiskError, fmt.Errorf("write first-boot data: %w", err))
	}
	if err := d.device.Flush(); err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	if err := d.device.DropCache(); err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	got := make([]byte, len(volume))
	if _, err := d.device.ReadAt(got, offset); err != nil {
		return job.Fail(job.ReasonDiskError, fmt.Errorf("read first-boot data back: %w", err))
	}
	if !bytes.Equal(got, volume) {
		return job.Failf(job.ReasonDiskError, "first-boot data read back is not what was written at byte %d of %s", offset, d.target.Name())
	}
	for _, other := range d.others {
		d.removeSeeds(run, other)
	}
	return nil
}

// seedVolume makes the filesystem for a seed partition.
func (d *deploy) seedVolume(p gpt.Partition) ([]byte, error) {
	sector := int(d.manifest.SectorSize)
	volume, err := fat.Build(fat.Options{
		SizeBytes: int64(p.Sectors()) * int64(sector), SectorSize: sector, Label: seedName,
		Serial: crc32.ChecksumIEEE(p.ID[:]), Time: time.Now(), HiddenSectors: uint32(min(p.FirstLBA, 1<<32-1)),
	}, seedFiles(d.order.GetSeed()))
	if err != nil {
		return nil, job.Fail(job.ReasonAgentError, fmt.Errorf("first-boot data: %w", err))
	}
	return volume, nil
}

// seedFiles are the four of NoCloud; meta-data and user-data must be there, the
// others only when there is something in them.
func seedFiles(s interface {
	GetMetaData() []byte
	GetUserData() []byte
	GetVendorData() []byte
	GetNetworkConfig() []byte
}) []fat.File {
	files := []fat.File{{Name: "meta-data", Data: s.GetMetaData()}, {Name: "user-data", Data: s.GetUserData()}}
	if data := s.GetVendorData(); len(data) > 0 {
		files = append(files, fat.File{Name: "vendor-data", Data: data})
	}
	if data := s.GetNetworkConfig(); len(data) > 0 {
		files = append(files, fat.File{Name: "network-config", Data: data})
	}
	return files
}

// removeSeeds blanks the start of every seed on another disk. A disk that
// refuses is a warning: the seed that counts is written. So is one that another
// machine may be running from.
func (d *deploy) removeSeeds(run *job.Run, other disk.Disk) {
	if !other.Usable() {
		return
	}
	places, err := seedsOn(other)
	if err == nil && len(places) > 0 {
		err = d.blankAt(other, places)
	}
	switch {
	case err != nil:
		d.warn(run, "old_seed_not_removed", "Disk %s may still hold the first-boot data of an earlier deploy: %v", other.Name(), err)
	case len(places) > 0:
		run.Log.Info("first-boot data of an earlier deploy removed", "disk", other.Name(), "volumes", len(places))
	}
}

// seedsOn finds where volumes labelled as a seed begin, in bytes.
func seedsOn(other disk.Disk) ([]int64, error) {
	f, err := os.Open(other.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(other.Info.SizeBytes)
	var places []int64
	look := func(offset, length int64) error {
		found, err := disk.Probe(io.NewSectionReader(f, offset, length), length)
		for _, s := range found {
			if strings.EqualFold(s.Label, seedName) {
				places = append(places, offset)
				break
			}
		}
		return err
	}
	if err := look(0, size); err != nil {
		return nil, err
	}
	table, err := gpt.Detect(f, size)
	if err != nil {
		return places, ignoreNoTable(err)
	}
	for _, p := range table.Partitions {
		if length := min(table.Size(p), size-table.Offset(p)); length > 0 {
			if err := look(table.Offset(p), length); err != nil {
				return nil, err
			}
		}
	}
	return places, nil
}

func (d *deploy) blankAt(other disk.Disk, places []int64) (err error) {
	if !other.Local() {
		return errors.New("it is reached over a network and may be another machine's")
	}
	device, err := d.open(other)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	for _, offset := range places {
		if err := device.ZeroRange(offset, min(64<<10, device.Size()-offset)); err != nil {
			return err
		}
	}
	return device.Flush()
}
