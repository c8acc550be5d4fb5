package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ingot-metal/ingot/initramfs/kernel"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

const (
	tinyInitPackage = "github.com/ingot-metal/ingot/vmtest/image/tinyinit"
	cloudKernel     = "linux-image-cloud-amd64"
	// kernelMaxAge is how long an unpacked kernel is used without a look at the
	// archive.
	kernelMaxAge = 24 * time.Hour
)

// tinyModules are what the tiny system needs beyond what the cloud kernel has
// built in (NVMe, ext4): disks, network, randomness, FAT for the seed, and the
// power button.
var tinyModules = []string{
	"virtio_pci", "virtio_rng", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net",
	"vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8", "button", "evdev",
}

// Tiny returns the path of the tiny system's raw disk image (128 MiB, most of
// it holes), building it in cacheDir first if it is not there. It runs the go
// command, so the working directory must be inside this module.
func Tiny(ctx context.Context, cacheDir string, log *slog.Logger) (string, error) {
	tools := append([]tool{{"go", "golang-go"}}, diskTools...)
	if os.Geteuid() != 0 {
		tools = append(tools, plainUserTools[0])
	}
	if err := checkTools(tools...); err != nil {
		return "", err
	}
	init, err := buildInit(ctx, cacheDir)
	if err != nil {
		return "", err
	}
	key, err := sourceKey([]string{fmt.Sprintf("%x", sha256.Sum256(init))})
	if err != nil {
		return "", err
	}
	c := cache{cacheDir, log}
	return c.get(ctx, "tiny", key, ".raw", func(ctx context.Context, r runner, workDir, path string) error {
		k, err := kernel.Fetch(ctx, filepath.Join(cacheDir, "cloud-kernel"), kernel.Source{Package: cloudKernel, MaxAge: kernelMaxAge}, time.Now(),
			func(err error) { log.Warn("newest kernel not looked up", "err", err) })
		if err != nil {
			return fmt.Errorf("get kernel: %w", err)
		}
		tree := filepath.Join(workDir, "root")
		if err := tinyTree(tree, init, k); err != nil {
			return err
		}
		d := disk{sizeMiB: 128, espMiB: 16, tree: tree, inodes: 1024, entry: entry{
			Title: "Ingot tiny", Kernel: "/boot/vmlinuz", Initrd: "/boot/initrd.img",
			// Quiet, so that no kernel message breaks a line that tests read.
			Args: "rw " + console + " quiet loglevel=3 panic=10",
		}}
		return d.build(ctx, r, workDir, path)
	})
}

// buildInit compiles tinyinit as a static program and returns it.
func buildInit(ctx context.Context, cacheDir string) ([]byte, error) {
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("make image cache: %w", err)
	}
	dir, err := os.MkdirTemp(cacheDir, ".tinyinit-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "init")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, tinyInitPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile tinyinit: %w: %s", err, lastLines(string(out)))
	}
	return os.ReadFile(path)
}

// tinyTree lays out the root filesystem.
func tinyTree(dir string, init []byte, k kernel.Package) error {
	for _, d := range []string{"boot", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "var/lib/ingot-tiny"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("lay out root: %w", err)
		}
	}
	image, err := k.Image()
	if err != nil {
		return err
	}
	vmlinuz, err := os.ReadFile(image)
	if err != nil {
		return fmt.Errorf("read kernel: %w", err)
	}
	initrd, err := tinyInitrd(init, k.Dir)
	if err != nil {
		return fmt.Errorf("make initramfs: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{"boot/vmlinuz", vmlinuz, 0o644},
		{"boot/initrd.img", initrd, 0o644},
		{"sbin/init", init, 0o755},
		{"etc/hostname", []byte("ingot-tiny\n"), 0o644},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return fmt.Errorf("lay out root: %w", err)
		}
	}
	return nil
}

// tinyInitrd packs init, the modules, and modules/order, which names them in an
// order in which each finds its needs loaded. The same bytes for the same input.
func tinyInitrd(init []byte, kernelDir string) ([]byte, error) {
	tree, err := kernel.Scan(kernelDir)
	if err != nil {
		return nil, err
	}
	selection, err := tree.Select(tinyModules)
	if err != nil {
		return nil, err
	}
	if len(selection.Absent) > 0 {
		return nil, fmt.Errorf("the kernel has no module %v", selection.Absent)
	}
	records := []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755), cpio.Directory("root", 0o755),
		cpio.Directory("modules", 0o755), cpio.StaticFile("init", string(init), 0o755),
	}
	contents := map[string]string{}
	for _, f := range selection.Files() {
		if f.From == "" {
			continue
		}
		data, err := os.ReadFile(f.From)
		if err != nil {
			return nil, err
		}
		contents[filepath.Base(f.Path)] = string(data)
	}
	var order bytes.Buffer
	for _, m := range loadOrder(selection.Modules) {
		name := filepath.Base(m.Path)
		records = append(records, cpio.StaticFile("modules/"+name, contents[name], 0o644))
		fmt.Fprintln(&order, name)
	}
	records = append(records, cpio.StaticFile("modules/order", order.String(), 0o644))
	return packInitrd(records)
}

// loadOrder puts every module behind those it needs.
func loadOrder(modules []kernel.Module) []kernel.Module {
	byName := map[string]kernel.Module{}
	for _, m := range modules {
		byName[m.Name] = m
	}
	var out []kernel.Module
	done := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		m, ok := byName[name]
		if !ok || done[name] {
			return // built in, or already placed
		}
		done[name] = true
		for _, d := range append(append([]string(nil), m.Depends...), m.Soft...) {
			visit(d)
		}
		out = append(out, m)
	}
	for _, m := range modules {
		visit(m.Name)
	}
	return out
}

func packInitrd(records []cpio.Record) ([]byte, error) {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	w := cpio.Newc.Writer(z)
	if err := cpio.WriteRecords(w, records); err != nil {
		return nil, err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
