package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/proto/agent"
)

// bootOrder makes the firmware start this disk from now on.
func (d *deploy) bootOrder(ctx context.Context, run *job.Run) (err error) {
	d.result.BootPath = agent.BootPath_BOOT_PATH_UNKNOWN
	if !d.machine.UEFI {
		d.result.BootPathDetail = "This machine starts by BIOS, whose order cannot be set from here; the controller sets the BMC's persistent override."
		return nil
	}
	esp, ok := d.table.ESP()
	if !ok {
		return job.Failf(job.ReasonImageLayout, "the image has no EFI system partition")
	}
	dir, unmount, err := d.mount(ctx, esp)
	if err != nil {
		return job.Fail(job.ReasonBootOrder, fmt.Errorf("read the EFI system partition: %w", err))
	}
	defer func() { err = errors.Join(err, unmount()) }()
	named := ""
	if d.manifest.Boot != nil {
		named = d.manifest.Boot.ESPLoader
	}
	path, err := findLoader(dir, named, d.machine.Architecture)
	if err != nil {
		return job.Fail(job.ReasonImageLayout, err)
	}
	evidence, err := d.machine.DiskFirst(ctx, Loader{
		PartitionNumber: esp.Number, PartitionGUID: esp.ID.String(), FirstLBA: esp.FirstLBA, Sectors: esp.Sectors(),
		SectorSize: d.table.SectorSize, Path: path, Label: d.manifest.Name,
	})
	if err != nil {
		return job.Fail(job.ReasonBootOrder, err)
	}
	d.result.BootPath, d.result.BootPathDetail = agent.BootPath_BOOT_PATH_CHECKED, evidence
	d.result.LoaderPartitionGuid, d.result.LoaderPath = esp.ID.String(), path
	run.Log.Info("firmware starts this disk first", "loader", path, "evidence", evidence)
	return nil
}

// enter decides how the system is started, and loads its kernel if that is by
// kexec.
func (d *deploy) enter(ctx context.Context, run *job.Run) error {
	d.leaveRelay() // its memory is needed for the system's kernel, and who has left it serves nobody
	if d.order.After == agent.After_AFTER_STOP {
		d.after = job.PowerOff
		return nil
	}
	d.after, d.result.EnteringBy = job.Reboot, agent.EnteredBy_ENTERED_BY_FIRMWARE
	if d.result.KexecRefused = d.order.KexecForbidden; d.result.KexecRefused != "" {
		run.Log.Info("machine restarts into the system", "kexec_refused", d.result.KexecRefused)
		return nil
	}
	if err := d.loadKexec(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d.result.KexecRefused = err.Error()
		d.warn(run, "kexec_refused", "The machine restarts through its firmware: %v", err)
		return nil
	}
	d.after, d.result.EnteringBy = job.Kexec, agent.EnteredBy_ENTERED_BY_KEXEC
	run.Log.Info("kernel of the system is loaded")
	return nil
}

// maxMounts bounds the filesystems of an installed system that are looked at.
const maxMounts = 8

func (d *deploy) loadKexec(ctx context.Context) (err error) {
	s := System{Boot: d.manifest.Boot, Extra: d.order.KernelParameters}
	parts, root := d.bootParts()
	for _, p := range parts {
		dir, unmount, mountErr := d.mount(ctx, p)
		if mountErr != nil {
			// Swap, LVM and the like are usual; only the root has to be readable.
			if p.Number == root {
				return fmt.Errorf("read the installed system: %w", mountErr)
			}
			continue
		}
		defer func() { err = errors.Join(err, unmount()) }()
		s.Filesystems = append(s.Filesystems, dir)
	}
	if root == 0 {
		return errors.New("the image's root partition is not known")
	}
	return d.machine.LoadKexec(ctx, s)
}

// bootParts are the partitions that the system may keep its kernel on, in the
// order of System.Filesystems, and the number of the root, 0 if unknown.
func (d *deploy) bootParts() (parts []gpt.Partition, root int) {
	rank := func(p gpt.Partition) int {
		switch {
		case p.Number == root:
			return 1
		case p.Type == gpt.TypeESP:
			return 2
		}
		return 0
	}
	if root = rootNumber(d); root == 0 {
		if p, ok := d.table.Root(); ok {
			root = p.Number
		}
	}
	for _, p := range d.table.Partitions {
		if p.Name != seedName && p.Type != gpt.TypeBIOSBoot {
			parts = append(parts, p)
		}
	}
	slices.SortStableFunc(parts, func(a, b gpt.Partition) int { return rank(a) - rank(b) })
	return parts[max(0, len(parts)-maxMounts):], root
}

func rootNumber(d *deploy) int {
	if d.manifest.Boot == nil {
		return 0
	}
	return int(d.manifest.Boot.RootPartition)
}

// mount mounts a partition of the target read-only.
func (d *deploy) mount(ctx context.Context, p gpt.Partition) (string, func() error, error) {
	device, err := awaitPartition(ctx, d.target, p.Number)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(device)
	if err != nil {
		return "", nil, err
	}
	size := d.table.Size(p)
	found, err := disk.Probe(io.NewSectionReader(f, 0, size), size)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, err
	}
	for _, s := range found {
		if slices.Contains([]string{"ext4", "xfs", "btrfs", "vfat"}, s.Kind) {
			return d.machine.Mount(ctx, device, s.Kind)
		}
	}
	return "", nil, fmt.Errorf("partition %d holds no filesystem that can be read here (found %v)", p.Number, found)
}

// awaitPartition waits until the kernel shows a partition, and gives its device.
func awaitPartition(ctx context.Context, d disk.Disk, number int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		device, err := d.Partition(number)
		if err == nil {
			return device, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// findLoader chooses the loader on a mounted ESP: the one that the manifest
// names, then a distribution's own (shim before anything that it would start),
// then the fallback that firmware tries by itself. A shim at the fallback's
// place may write boot entries of its own and restart, so it comes last.
func findLoader(dir, named, architecture string) (string, error) {
	suffix, ok := map[string]string{"amd64": "x64", "arm64": "aa64", "riscv64": "riscv64", "": "x64"}[architecture]
	if !ok {
		return "", fmt.Errorf("no UEFI loader is known for %s", architecture)
	}
	all, err := loaders(dir)
	if err != nil {
		return "", fmt.Errorf("read the EFI system partition: %w", err)
	}
	pick := func(want func(vendor, file string) bool) string {
		for _, path := range all {
			parts := strings.Split(strings.ToLower(path), "/") // "", "efi", vendor, file
			if want(parts[2], parts[3]) {
				return path
			}
		}
		return ""
	}
	if named != "" {
		if i := slices.IndexFunc(all, func(p string) bool { return strings.EqualFold(p, named) }); i >= 0 {
			return all[i], nil
		}
	}
	for _, name := range []string{"shim", "grub", "systemd-boot"} {
		if path := pick(func(vendor, file string) bool { return vendor != "boot" && file == name+suffix+".efi" }); path != "" {
			return path, nil
		}
	}
	if path := pick(func(vendor, file string) bool { return vendor == "boot" && file == "boot"+suffix+".efi" }); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("no boot loader for %s on the EFI system partition (found %d files: %.300s)", suffix, len(all), strings.Join(all, ", "))
}

// loaders lists /EFI/*/*.efi as they are written, at most 256.
func loaders(dir string) ([]string, error) {
	var all []string
	top, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, efi := range top {
		if !strings.EqualFold(efi.Name(), "EFI") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, efi.Name(), "*", "*"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if strings.EqualFold(filepath.Ext(f), ".efi") && len(all) < 256 {
				all = append(all, strings.TrimPrefix(f, dir))
			}
		}
	}
	return all, nil
}
