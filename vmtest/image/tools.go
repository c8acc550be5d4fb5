package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tool is a program or a file of the host, and the Debian package it is in.
type tool struct{ path, pkg string }

// diskTools are what assembling a disk needs, debianTools what a Debian tree
// needs beyond them.
var (
	diskTools = []tool{
		{"apt-get", "apt"}, {"dpkg-deb", "dpkg"},
		{"sfdisk", "fdisk"}, {"mke2fs", "e2fsprogs"}, {"mkfs.vfat", "dosfstools"},
		{"mmd", "mtools"}, {"mcopy", "mtools"}, {"grub-mkimage", "grub-common"},
		{grubBIOSDir + "/boot.img", "grub-pc-bin"},
		{shimPath, "shim-signed"}, {mokManagerPath, "shim-helpers-amd64-signed"},
		{grubEFIPath, "grub-efi-amd64-signed"},
		{"/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"},
	}
	debianTools = []tool{{"mmdebstrap", "mmdebstrap"}, {"tar", "tar"}}
	// Without root, owners are remembered by fakeroot, and mmdebstrap maps users
	// with newuidmap.
	plainUserTools = []tool{{"fakeroot", "fakeroot"}, {"newuidmap", "uidmap"}}
)

// checkTools returns an error that names the packages to install when something
// is missing.
func checkTools(tools ...tool) error {
	var missing, pkgs []string
	for _, t := range tools {
		if !present(t.path) {
			missing = append(missing, t.path)
			pkgs = append(pkgs, t.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(pkgs)
	return fmt.Errorf("building an image needs %s; install them with: apt-get install %s",
		strings.Join(missing, ", "), strings.Join(slices.Compact(pkgs), " "))
}

func present(path string) bool {
	if strings.HasPrefix(path, "/") {
		_, err := os.Stat(path)
		return err == nil
	}
	_, err := lookTool(path)
	return err == nil
}

// lookTool finds a program also where PATH of a plain user does not lead.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + name)
		}
	}
	return path, err
}

// runner executes the host's programs.
type runner struct {
	log *slog.Logger
	// ownerFile is where fakeroot keeps owners and modes from one program to the
	// next; "" when the builder is root and the filesystem keeps them.
	ownerFile string
}

func newRunner(log *slog.Logger, workDir string) runner {
	if os.Geteuid() == 0 {
		return runner{log: log}
	}
	return runner{log: log, ownerFile: workDir + "/owners"}
}

// run executes a program with stdin as its input; what it printed is part of
// the error when it ends with one.
func (r runner) run(ctx context.Context, stdin, program string, args ...string) error {
	path, err := lookTool(program)
	if err != nil {
		return fmt.Errorf("find program: %w", err)
	}
	started := time.Now()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// mmdebstrap has children, which only itself can end.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, errors.Join(err, context.Cause(ctx)), lastLines(out.String()))
	}
	r.log.Debug("program ended", "program", program, "elapsed", time.Since(started))
	return nil
}

// runOwned is run as root, or as somebody who believes to be root: it sees and
// leaves behind the owners that the image shall have.
func (r runner) runOwned(ctx context.Context, program string, args ...string) error {
	if r.ownerFile == "" {
		return r.run(ctx, "", program, args...)
	}
	path, err := lookTool(program)
	if err != nil {
		return fmt.Errorf("find program: %w", err)
	}
	wrapped := []string{"-s", r.ownerFile}
	if _, err := os.Stat(r.ownerFile); err == nil {
		wrapped = append(wrapped, "-i", r.ownerFile)
	}
	return r.run(ctx, "", "fakeroot", append(append(wrapped, "--", path), args...)...)
}

// lastLines keeps the end of what a program printed.
func lastLines(s string) string {
	const most = 1500
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
