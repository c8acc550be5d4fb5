package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// prepare makes every check that there is, and writes nothing.
func (d *deploy) prepare(ctx context.Context, run *job.Run) error {
	if err := d.findTarget(run); err != nil {
		return explained(err)
	}
	source, err := fetch.Open(d.order.FrameUrls, fetch.Options{HTTP: fetch.HTTPOptions{Client: d.machine.Client},
		Retry: fetch.RetryOptions{Notify: func(err error, attempt int, _ time.Duration) {
			run.Log.Warn("image will be asked for again", "err", err, "attempt", attempt)
		}}})
	if err != nil {
		return job.Fail(job.ReasonImageGone, err)
	}
	d.source = source
	image, err := newContent(ctx, d.manifest, d.source)
	if err != nil {
		return err
	}
	defer image.close()
	if d.joinRelay(run); d.relay != nil {
		image.keep = d.relay.node.Keep
	}
	if err := d.checkLayout(run, image); err != nil {
		return explained(err)
	}
	return d.checkOthers(run, image)
}

// findTarget looks at the disks afresh and checks the one that was chosen.
func (d *deploy) findTarget(run *job.Run) error {
	disks, err := d.machine.Disks()
	if err != nil {
		return err
	}
	s := d.order.GetDisk()
	d.target, err = disk.Pick(disks, disk.Selector{Serial: s.GetSerial(), WWN: s.GetWwn(), ByPath: s.GetByPath(), SizeBytes: s.GetSizeBytes()})
	if err != nil {
		return err
	}
	for _, other := range disks {
		if other.Path != d.target.Path {
			d.others = append(d.others, other)
		}
	}
	info := d.target.Info
	d.result.DiskSerial = info.Serial
	run.Log.Info("disk is chosen", "disk", d.target.Name(), "model", info.Model, "bytes", info.SizeBytes)
	if info.LogicalSectorBytes != d.manifest.SectorSize {
		return &writer.SectorSizeError{Image: int(d.manifest.SectorSize), Target: int(info.LogicalSectorBytes)}
	}
	if d.manifest.SizeBytes > info.SizeBytes {
		return &writer.SizeError{ImageBytes: int64(d.manifest.SizeBytes), TargetBytes: int64(info.SizeBytes)}
	}
	return nil
}

// checkLayout tries on a copy in memory what grow will do on the disk.
func (d *deploy) checkLayout(run *job.Run, image *content) error {
	size := int64(d.target.Info.SizeBytes)
	if need := gpt.DiskBytesFor(int64(d.manifest.SizeBytes), seedBytes); need > size {
		// The sum of all parts may still fit when the image has room at its end;
		// Fit below is exact.
		run.Log.Info("disk is hardly larger than the image", "bytes", size, "safe", need)
	}
	table, err := gpt.Read(image, int64(d.manifest.SizeBytes), int(d.manifest.SectorSize))
	if err != nil {
		return fmt.Errorf("partition table of the image: %w", err)
	}
	if _, ok := table.ESP(); d.machine.UEFI && !ok {
		return job.Failf(job.ReasonImageLayout, "this machine starts by UEFI, and the image has no EFI system partition")
	}
	d.growRoot = true
	_, seed, err := table.Fit(size, gpt.Seed{Name: seedName, SizeBytes: seedBytes}, true)
	if errors.Is(err, gpt.ErrRootNotLast) || errors.Is(err, gpt.ErrNoRoot) {
		d.growRoot = false
		d.warn(run, "root_not_grown", "The image's root partition keeps its size: %v", err)
		_, seed, err = table.Fit(size, gpt.Seed{Name: seedName, SizeBytes: seedBytes}, false)
	}
	if err != nil {
		return fmt.Errorf("partition table for %s: %w", d.target.Name(), err)
	}
	_, err = d.seedVolume(seed) // does it fit?
	return err
}

// checkOthers looks for disks that could be taken for the one that is written.
func (d *deploy) checkOthers(run *job.Run, image *content) error {
	ids, err := marksOf(image, int64(d.manifest.SizeBytes))
	if err != nil {
		return explained(fmt.Errorf("look at the image: %w", err))
	}
	var found []string
	for _, other := range d.others {
		shared, err := ids.conflict(other)
		if err != nil {
			// A disk that cannot be read cannot be booted from either.
			d.warn(run, "disk_not_readable", "Disk %s could not be searched for the image's ids: %v", other.Name(), err)
			continue
		}
		if shared == "" {
			continue
		}
		if d.order.WipeConflicting && !other.Info.ReadOnly {
			d.wipe = append(d.wipe, other)
			continue
		}
		found = append(found, other.Name()+" ("+shared+")")
	}
	if len(found) > 0 {
		return job.Failf(job.ReasonDiskConflict, "the image's ids are on another disk too: %s", strings.Join(found, "; "))
	}
	return nil
}
