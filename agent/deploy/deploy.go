// Package deploy puts an image on a disk of this machine and makes it the
// system that starts.
//
//	prepare     the disk found, the image looked at, every check made; nothing written
//	layout      stale signatures wiped, on the target and where asked for elsewhere
//	write       frames fetched, written, flushed, and read back against the manifest
//	grow        backup GPT to the end, root partition grown, 8 MiB for the seed
//	seed        the first-boot data as a small FAT volume; older seeds removed
//	settle      all flushed, the kernel looks at the partitions again
//	boot-order  the firmware's order: this disk first, read back (UEFI)
//	enter       how the system will be started: kexec, or a restart with its reason
//
// A phase may find its own work of an earlier attempt: the write keeps frames
// that are right already, and all others do the same again with the same
// outcome. From layout until all of the image is on the medium the disk starts
// nothing: layout takes both ends away, also of a disk whose content may be
// kept, and the writer puts them down last. Between write and settle the target is held exclusively.
//
// What is on the disk when write ends is the image, byte for byte; grow and seed
// then change the partition table and what lies behind the root partition.
package deploy

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/writer"
	"github.com/ingot-metal/ingot/proto/agent"
)

// Machine is what a deploy needs of the machine around it.
type Machine struct {
	// Disks lists the disks as they are now.
	Disks func() ([]disk.Disk, error)
	UEFI  bool
	// Architecture as Debian writes it: amd64, arm64.
	Architecture string
	// Client fetches frames; nil means one without any trust of its own.
	Client *http.Client
	// Mount mounts a partition read-only and gives where it lies; the caller
	// unmounts it. filesystem is a kind of disk.Signature.
	Mount func(ctx context.Context, device, filesystem string) (dir string, unmount func() error, err error)
	// DiskFirst makes the firmware start the loader first, and reads that back
	// (UEFI only). It returns what it found, for people.
	DiskFirst func(ctx context.Context, l Loader) (evidence string, err error)
	// LoadKexec reads the installed system's own boot configuration and loads
	// its kernel. Any error is a refusal: the machine restarts instead.
	LoadKexec func(ctx context.Context, s System) error
	// TrustedKeys is the list of public keys in this machine's initramfs, as
	// sign.ParseKeys reads it; nil when it has none. With a list, one of its keys
	// must have signed the image, whatever the order says.
	TrustedKeys []byte
	// Relay is for deploys that take part in a relay; nil: none does.
	Relay *Relay
	// MemoryBytes bounds the writer's buffers; 0 means 128 MiB.
	MemoryBytes int64
}

// Processors is the GOMAXPROCS of a program that deploys.
func Processors() int { return runtime.NumCPU() + writer.BlockedThreads }

// Loader is a boot loader on an EFI system partition.
type Loader struct {
	PartitionNumber int
	PartitionGUID   string
	FirstLBA        uint64 // in sectors of the disk
	Sectors         uint64
	SectorSize      int
	Path            string // with slashes, such as /EFI/debian/shimx64.efi
	Label           string // for people: the image's name
}

// System is an installed system as it lies on the disk.
type System struct {
	// Filesystems are mounted read-only: others than the root first (one may be
	// /boot), then the root, then the ESP.
	Filesystems []string
	// Boot is what the image's manifest knows; may be nil.
	Boot *manifest.Boot
	// Extra kernel parameters that were ordered.
	Extra []string
}

// Size and name of the seed partition, and the label of its filesystem
// (cloud-init's NoCloud looks for that label).
const (
	seedBytes = 8 << 20
	seedName  = "cidata"
)

// deploy is one order on its way through the phases.
type deploy struct {
	machine Machine
	order   *agent.DeployJob

	manifest *manifest.Manifest
	digest   manifest.Digest
	source   writer.Source
	target   disk.Disk
	wipe     []disk.Disk    // others that bear the image's ids, to be wiped
	others   []disk.Disk    // all but the target
	growRoot bool           // root is the last partition
	relay    *relayed       // nil: this deploy takes part in none
	device   *writer.Device // open from layout to settle
	table    *gpt.Table     // of the disk, once grown
	root     gpt.Partition
	seed     gpt.Partition

	result   *agent.DeployResult
	warnings []*agent.Warning
	after    job.After
}

// Plan makes the plan of a deploy order. It checks what can be told from the
// order alone; an error has a reason.
func Plan(m Machine, order *agent.DeployJob) (job.Plan, error) {
	d := &deploy{machine: m, order: order, result: &agent.DeployResult{ImageDigest: order.ImageDigest}}
	if err := d.read(); err != nil {
		return job.Plan{}, err
	}
	return job.Plan{
		Phases: []job.Phase{
			job.Single("prepare", 5*time.Minute, d.prepare),
			job.Single("layout", 10*time.Minute, d.layout),
			job.Single("write", 24*time.Hour, d.write),
			job.Single("grow", 5*time.Minute, d.grow),
			job.Single("seed", 10*time.Minute, d.plantSeed),
			job.Single("settle", 5*time.Minute, d.settle),
			job.Single("boot-order", 2*time.Minute, d.bootOrder),
			job.Single("enter", 2*time.Minute, d.enter),
		},
		Finish: d.finish,
		After:  func() job.After { return d.after },
	}, nil
}

// read checks the manifest against the digest and the order for what it lacks.
func (d *deploy) read() error {
	var err error
	if d.digest, err = manifest.ParseDigest(d.order.ImageDigest); err != nil {
		return job.Failf(job.ReasonImageDigest, "image digest of the order: %w", err)
	}
	if d.manifest, err = manifest.ParseVerified(d.order.Manifest, d.digest); err != nil {
		return job.Failf(job.ReasonImageDigest, "manifest of the order: %w", err)
	}
	if err := d.checkSignatures(); err != nil {
		return err
	}
	switch m := d.manifest; {
	case m.Kind != manifest.KindDisk:
		return job.Failf(job.ReasonImageLayout, "the image is a %s, and only whole disks can be deployed", m.Kind)
	case m.Architecture != "" && d.machine.Architecture != "" && m.Architecture != d.machine.Architecture:
		return job.Failf(job.ReasonImageLayout, "the image is for %s and this machine is %s", m.Architecture, d.machine.Architecture)
	case len(d.order.FrameUrls) == 0 || len(d.order.FrameUrls) > 64:
		return job.Failf(job.ReasonImageGone, "the order names %d places to fetch the image from", len(d.order.FrameUrls))
	}
	return nil
}

// finish fills the result, also of a deploy that failed half-way.
func (d *deploy) finish(r *agent.JobResult) {
	d.leaveRelay()
	if d.device != nil {
		_ = d.device.Close() // only after a failure; settle reports its own
		d.device = nil
	}
	r.Result = &agent.JobResult_Deploy{Deploy: d.result}
	r.Warnings = d.warnings
}

func (d *deploy) warn(run *job.Run, code, format string, args ...any) {
	w := &agent.Warning{Code: code, Text: fmt.Sprintf(format, args...)}
	run.Log.Warn("deploy goes on with a warning", "code", code, "text", w.Text)
	d.warnings = append(d.warnings, w)
}

// written copies what the writer did into the result. Verified is for a
// read-back of every byte alone; verified_after without it tells of a sample
// that was in order, where that was ordered.
func (d *deploy) written(r writer.Report) {
	d.result.BytesFetched, d.result.BytesWritten = uint64(r.BytesFetched), uint64(r.BytesWritten)
	d.result.FramesResumed, d.result.BytesKept = uint64(r.FramesKept), uint64(r.BytesKept)
	d.result.Verified = r.Verified
	d.result.FlushedAfter = durationpb.New(r.CheckTime + r.WriteTime + r.FlushTime)
	if r.Verified || r.Sampled {
		d.result.VerifiedAfter = durationpb.New(r.CheckTime + r.WriteTime + r.FlushTime + r.VerifyTime)
	}
}
