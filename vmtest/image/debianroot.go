package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-metal/ingot/initramfs/kernel"
)

// debianPackages on top of the essential ones; what they only recommend stays
// out. python3 comes with cloud-init.
var debianPackages = []string{
	"linux-image-cloud-amd64", "initramfs-tools", "zstd", "e2fsprogs", "kmod", "udev",
	"systemd-sysv", "systemd-resolved", "libpam-systemd", "dbus",
	"netplan.io", "iproute2", "cloud-init", "openssh-server", "sudo", "ca-certificates", "curl",
}

// debianRoot writes the root tree as a tar archive: packages, then debian.sh.
func debianRoot(ctx context.Context, r runner, workDir, path string) error {
	script, err := sources.ReadFile("debian.sh")
	if err != nil {
		return err
	}
	hook := filepath.Join(workDir, "debian.sh")
	if err := os.WriteFile(hook, script, 0o755); err != nil {
		return err
	}
	mode := "root"
	if r.ownerFile != "" {
		mode = "unshare"
	}
	args := []string{
		"--mode=" + mode, "--variant=minbase", "--format=tar", "--architectures=amd64",
		"--include=" + strings.Join(debianPackages, ","),
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Retries "3"`,
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--customize-hook=" + hook + ` "$1"`,
		"bookworm", path, "-",
	}
	archive, err := kernel.Archive(ctx)
	if err != nil {
		return err
	}
	if err := r.run(ctx, archive, "mmdebstrap", args...); err != nil {
		return fmt.Errorf("install Debian's packages: %w", err)
	}
	return nil
}
