package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ingot-metal/ingot/initramfs/kernel"
)

// Limit is what kernel and initramfs may have together, in bytes: small
// enough for slow TFTP links and machines with 1 GiB of memory.
const Limit = 32 << 20

// Options says what to build from what. Every path is on the host.
type Options struct {
	// Out receives vmlinuz, initramfs.zst, the loaders and manifest.json.
	Out string
	// CacheDir keeps the unpacked kernel package and compressed layers.
	CacheDir string
	// Init and Agent are static binaries.
	Init, Agent string
	// Kernel says where the kernel comes from.
	Kernel kernel.Source
	// FirmwareDir is laid out like /lib/firmware; empty packs no firmware.
	FirmwareDir string
	// PCINames is a pci.ids file.
	PCINames string
	// IPXEDir holds undionly.kpxe, snponly.efi and ipxe.efi; GRUBDir the
	// modules of grub-efi-amd64-bin.
	IPXEDir, GRUBDir string
	// TrustedKeys is a file with minisign public keys, one a line; empty packs
	// none. With it the agent deploys only images that one of them has signed.
	TrustedKeys string
	// Limit in bytes; zero means Limit.
	Limit int64
}

// Build makes the boot files and returns what it also writes to manifest.json.
// The manifest is written last. now is the current time, for the age of the
// kernel's cache only: it does not enter the result.
func Build(ctx context.Context, o Options, now time.Time, log *slog.Logger) (Manifest, error) {
	var m Manifest
	p, err := kernel.Fetch(ctx, filepath.Join(o.CacheDir, "kernel"), o.Kernel, now, func(err error) { log.Warn("archive not reachable", "err", err) })
	if err != nil {
		return m, err
	}
	log.Info("kernel ready", "package", p.Name, "version", p.Version)
	files, err := chooseFiles(p, o, &m)
	if err != nil {
		return m, err
	}
	archive, err := o.pack(ctx, files, &m)
	if err != nil {
		return m, err
	}
	image, err := p.Image()
	if err != nil {
		return m, err
	}
	vmlinuz, err := os.ReadFile(image)
	if err != nil {
		return m, fmt.Errorf("read kernel: %w", err)
	}
	if err := m.weigh(vmlinuz, archive, o.limit()); err != nil {
		return m, err
	}
	out := map[string][]byte{"vmlinuz": vmlinuz, "initramfs.zst": archive}
	if err := addLoaders(ctx, o, out); err != nil {
		return m, err
	}
	return m, o.write(out, &m)
}

func (o Options) limit() int64 {
	if o.Limit == 0 {
		return Limit
	}
	return o.Limit
}

// chooseFiles lists modules and firmware, and notes in the manifest what there
// is and what is missing.
func chooseFiles(p kernel.Package, o Options, m *Manifest) ([]kernel.File, error) {
	tree, err := kernel.Scan(p.Dir)
	if err != nil {
		return nil, err
	}
	selection, err := tree.Select(kernel.Modules())
	if err != nil {
		return nil, fmt.Errorf("choose kernel modules: %w", err)
	}
	firmware, missing, err := kernel.FindFirmware(o.FirmwareDir, selection.Firmware())
	if err != nil {
		return nil, err
	}
	m.Kernel = KernelFacts{Package: p.Name, Version: p.Version, Release: tree.Version}
	m.Modules, m.AbsentModules = len(selection.Modules), selection.Absent
	m.Firmware, m.MissingFirmware = len(firmware), missing
	return append(append(selection.Files(), firmware...), kernel.File{Path: "usr/share/misc/pci.ids", From: o.PCINames}), nil
}

// pack makes the archive of two layers, each compressed by itself: after a
// change of the agent only the small one is compressed anew.
func (o Options) pack(ctx context.Context, files []kernel.File, m *Manifest) ([]byte, error) {
	lower, err := base(files)
	if err != nil {
		return nil, err
	}
	upper, err := programs(o.Init, o.Agent, o.TrustedKeys)
	if err != nil {
		return nil, err
	}
	var archive []byte
	for _, records := range [][]cpio.Record{lower, upper} {
		var raw bytes.Buffer
		if err := writeArchive(&raw, records); err != nil {
			return nil, err
		}
		m.UnpackedBytes += int64(raw.Len())
		packed, err := compress(ctx, raw.Bytes(), filepath.Join(o.CacheDir, "layers"))
		if err != nil {
			return nil, err
		}
		archive = append(archive, packed...)
	}
	return archive, nil
}

// write puts all files and then the manifest into the output directory.
func (o Options) write(files map[string][]byte, m *Manifest) error {
	for name, data := range files {
		if err := writeFile(filepath.Join(o.Out, name), data); err != nil {
			return err
		}
		m.Files = append(m.Files, fact(name, data))
	}
	slices.SortFunc(m.Files, func(a, b FileFact) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return writeFile(filepath.Join(o.Out, "manifest.json"), append(data, '\n'))
}
