package image

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Flavour is a Debian 12 of a certain size; the root's packages are the same in all.
type Flavour struct {
	Name    string // of its file in the cache
	SizeMiB int64  // of the disk
	// SectorSize of the disks it is for: 512 or 4096 bytes.
	SectorSize int64
	// Fill names packages whose files are unpacked on top, without their
	// dependencies and not configured: content, not programs to be run.
	Fill []string
}

// Lean is what the lab deploys: 1.5 GiB, two thirds of it holes.
func Lean() Flavour { return Flavour{Name: "debian", SizeMiB: 1536, SectorSize: 512} }

// Debian returns the path of the raw disk image of a Debian 12 with cloud-init,
// building it in cacheDir first if it is not there. The installed packages are
// cached apart from the disk, since they take most of the time.
func Debian(ctx context.Context, cacheDir string, f Flavour, log *slog.Logger) (string, error) {
	tools := append(append([]tool(nil), diskTools...), debianTools...)
	if os.Geteuid() != 0 {
		tools = append(tools, plainUserTools...)
	}
	if err := checkTools(tools...); err != nil {
		return "", err
	}
	key, err := sourceKey([]string{fmt.Sprintf("%+v", f)})
	if err != nil {
		return "", err
	}
	rootKey, err := sourceKey(nil, "debianroot.go", "debian.sh")
	if err != nil {
		return "", err
	}
	c := cache{cacheDir, log}
	return c.get(ctx, f.Name, key, ".raw", func(ctx context.Context, r runner, workDir, path string) error {
		archive, err := c.get(ctx, "debian-root", rootKey, ".tar", debianRoot)
		if err != nil {
			return err
		}
		tree := filepath.Join(workDir, "root")
		if err := os.Mkdir(tree, 0o755); err != nil {
			return err
		}
		// /dev is the kernel's; a plain user could not make its nodes anyway.
		err = r.runOwned(ctx, "tar", "-C", tree, "--numeric-owner", "--exclude=./dev/*", "-xpf", archive)
		if err != nil {
			return fmt.Errorf("unpack Debian's root: %w", err)
		}
		if err := c.fill(ctx, r, tree, workDir, f.Fill); err != nil {
			return err
		}
		return debianDisk(ctx, r, f, workDir, tree, path)
	})
}

func debianDisk(ctx context.Context, r runner, f Flavour, workDir, tree, path string) error {
	kernel, err := onlyOne(tree, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	initrd, err := onlyOne(tree, "boot/initrd.img-*")
	if err != nil {
		return err
	}
	d := f.disk()
	d.tree, d.fstabOptions, d.entry = tree, "errors=remount-ro", entry{
		Title: "Debian GNU/Linux 12", Kernel: kernel, Initrd: initrd,
		Args: "ro " + console + " quiet",
	}
	return d.build(ctx, r, workDir, path)
}

// onlyOne returns the absolute path, seen from the tree, of the one file that
// the pattern matches.
func onlyOne(tree, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(tree, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d files match %s in Debian's root, one is needed", len(found), pattern)
	}
	rel, err := filepath.Rel(tree, found[0])
	return "/" + rel, err
}
