package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// layout takes the target and wipes what could be mistaken for something, there
// and on the disks that were given over to it.
func (d *deploy) layout(_ context.Context, run *job.Run) error {
	// First, so that a target that is in use costs no other disk its content.
	device, err := d.open(d.target)
	if err != nil {
		return explained(err)
	}
	d.device = device
	for _, other := range d.wipe {
		if err := d.wipeOther(other); err != nil {
			return explained(err)
		}
		d.warn(run, "other_disk_wiped", "Disk %s bore the image's ids; its signatures were wiped as ordered.", other.Name())
	}
	return explained(writer.WipeSignatures(device))
}

// open takes a disk to write to it, and makes sure that it is the one that
// prepare saw: the kernel's name may have gone to another one since, hours ago
// for an old seed, but stays while the device is open.
func (d *deploy) open(wanted disk.Disk) (*writer.Device, error) {
	device, err := writer.Open(wanted.Path, writer.OpenOptions{SectorSize: int(wanted.Info.LogicalSectorBytes)})
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: is an array, a volume group or a filesystem on it active?", err)
	}
	if err != nil {
		return nil, err
	}
	if err := d.confirm(wanted, device); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return device, nil
}

func (d *deploy) confirm(wanted disk.Disk, device *writer.Device) error {
	disks, err := d.machine.Disks()
	if err != nil {
		return err
	}
	same := slices.ContainsFunc(disks, wanted.Same)
	if !same || device.Size() != int64(wanted.Info.SizeBytes) || device.SectorSize() != int(wanted.Info.LogicalSectorBytes) {
		return fmt.Errorf("%s is another disk now than when the checks were made: %w", wanted.Name(), disk.ErrGone)
	}
	return nil
}

func (d *deploy) wipeOther(other disk.Disk) (err error) {
	device, err := d.open(other)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if err := writer.WipeSignatures(device); err != nil {
		return fmt.Errorf("%s: %w", other.Name(), err)
	}
	return reread(device)
}

// reread makes the kernel forget old partitions; devices that cannot have any
// say EINVAL.
func reread(device *writer.Device) error {
	if err := device.RereadPartitions(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// write puts the image on the disk and proves that it is there.
func (d *deploy) write(ctx context.Context, run *job.Run) error {
	source, options := d.throughRelay(d.writerOptions(run))
	report, err := writer.Write(ctx, d.device, d.manifest, source, options)
	d.written(report)
	d.wroteThrough()
	run.Log.Info("writer ended", "written", report.BytesWritten, "fetched", report.BytesFetched, "zeroed", report.BytesZeroed,
		"frames_kept", report.FramesKept, "kept", report.BytesKept, "check", report.CheckTime, "write", report.WriteTime, "flush", report.FlushTime,
		"verify", report.VerifyTime, "verified", report.Verified)
	switch {
	case err != nil || report.Verified:
	case report.Sampled:
		d.warn(run, "read_back_sampled", "Only %d %% of what was written was read back, as the site ordered.", d.order.GetReadBack().GetPercent())
	default:
		err = errors.New("the writer ended without having verified the image")
	}
	return explained(err)
}

// writerOptions are what the order says of the write.
func (d *deploy) writerOptions(run *job.Run) writer.Options {
	rate := meter{}
	last := writer.Phase("")
	opts := writer.Options{
		// Whoever was here before (an earlier boot, or a process that died) may
		// have written a part.
		Resume:          d.order.Resume || run.Attempt > 1,
		Reuse:           d.order.Reuse,
		ReadBackPercent: int(min(d.order.GetReadBack().GetPercent(), 100)),
		MemoryBytes:     d.machine.MemoryBytes,
		Progress: func(p writer.Progress) {
			if p.Phase != last {
				run.Log.Info("writer goes on", "step", string(p.Phase), "bytes", p.TotalBytes)
				last, rate = p.Phase, meter{}
			}
			run.Progress(string(p.Phase), p.DoneBytes, p.TotalBytes, p.BytesFetched, rate.of(p.DoneBytes))
		},
	}
	if d.order.GetReadBack().GetSha256() {
		opts.Proof = writer.ProofSHA256
	}
	return opts
}

// meter tells bytes a second since it was first asked.
type meter struct {
	start time.Time
	from  int64
}

func (m *meter) of(done int64) int64 {
	if m.start.IsZero() {
		m.start, m.from = time.Now(), done
		return 0
	}
	elapsed := time.Since(m.start)
	if elapsed < 100*time.Millisecond {
		return 0
	}
	return int64(float64(done-m.from) / elapsed.Seconds())
}

// grow makes the image's partition table one for this disk.
func (d *deploy) grow(_ context.Context, run *job.Run) error {
	table, err := gpt.Read(d.device, d.device.Size(), d.device.SectorSize())
	if err != nil {
		return explained(fmt.Errorf("partition table as written: %w", err))
	}
	d.root, d.seed, err = table.Fit(d.device.Size(), gpt.Seed{Name: seedName, SizeBytes: seedBytes}, d.growRoot)
	if err != nil {
		return explained(err)
	}
	if err := table.Write(d.device); err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	// What was read back is what counts from here on.
	if d.table, err = gpt.Read(d.device, d.device.Size(), d.device.SectorSize()); err != nil {
		return job.Failf(job.ReasonDiskError, "partition table read back: %w", err)
	}
	run.Log.Info("partition table fits the disk", "root", d.root.Number, "root_bytes", d.table.Size(d.root),
		"seed", d.seed.Number, "grown", d.growRoot)
	return nil
}

// settle leaves nothing in any cache, gives the disk back and waits until the
// kernel shows its new partitions.
func (d *deploy) settle(ctx context.Context, run *job.Run) error {
	if err := d.device.Flush(); err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	if err := reread(d.device); err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	err := d.device.Close()
	d.device = nil
	if err != nil {
		return job.Fail(job.ReasonDiskError, err)
	}
	run.Log.Info("disk is flushed and given back")
	return ctx.Err()
}
