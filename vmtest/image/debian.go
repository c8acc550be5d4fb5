package image

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Debian returns the path of the raw disk image (1.5 GiB, two thirds of it
// holes) of a lean Debian 12 with cloud-init, building it in cacheDir first if
// it is not there. The installed packages are cached apart from the disk, since
// they take most of the time.
func Debian(ctx context.Context, cacheDir string, log *slog.Logger) (string, error) {
	tools := append(append([]tool(nil), diskTools...), debianTools...)
	if os.Geteuid() != 0 {
		tools = append(tools, plainUserTools...)
	}
	if err := checkTools(tools...); err != nil {
		return "", err
	}
	key, err := sourceKey(nil)
	if err != nil {
		return "", err
	}
	rootKey, err := sourceKey(nil, "debianroot.go", "debian.sh")
	if err != nil {
		return "", err
	}
	c := cache{cacheDir, log}
	return c.get(ctx, "debian", key, ".raw", func(ctx context.Context, r runner, workDir, path string) error {
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
		return debianDisk(ctx, r, workDir, tree, path)
	})
}

func debianDisk(ctx context.Context, r runner, workDir, tree, path string) error {
	kernel, err := onlyOne(tree, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	initrd, err := onlyOne(tree, "boot/initrd.img-*")
	if err != nil {
		return err
	}
	d := disk{sizeMiB: 1536, espMiB: 48, tree: tree, fstabOptions: "errors=remount-ro", entry: entry{
		Title: "Debian GNU/Linux 12", Kernel: kernel, Initrd: initrd,
		Args: "ro " + console + " quiet",
	}}
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
