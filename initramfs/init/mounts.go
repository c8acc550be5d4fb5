package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mount is one line of what fstab would hold.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// mountFunc has the shape of mount(2).
type mountFunc func(source, target, kind string, flags uintptr, data string) error

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// earlyMounts is what everything else needs, in order.
var earlyMounts = []mount{
	{"devtmpfs", "dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"proc", "proc", "proc", noExec, ""},
	{"sysfs", "sys", "sysfs", noExec, ""},
	{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"tmpfs", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"devpts", "dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
	{"tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
}

// lateMounts need modules, or exist on some machines only: the TPM's event log
// lies in securityfs, the boot order in efivarfs (a module in Debian's kernel).
func lateMounts(root string) []mount {
	var out []mount
	if exists(filepath.Join(root, "sys/kernel/security")) {
		out = append(out, mount{"securityfs", "sys/kernel/security", "securityfs", noExec, ""})
	}
	if exists(filepath.Join(root, "sys/firmware/efi/efivars")) {
		out = append(out, mount{"efivarfs", "sys/firmware/efi/efivars", "efivarfs", noExec, ""})
	}
	return out
}

// mountAll mounts what it can, making missing directories, and returns what went
// wrong. A target that is mounted already counts as done.
func mountAll(root string, mounts []mount, do mountFunc) []error {
	var errs []error
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		err := os.MkdirAll(target, 0o755)
		if err == nil || exists(target) {
			err = do(m.source, target, m.kind, m.flags, m.data)
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m.kind, target, err))
		}
	}
	return errs
}

// setKernel keeps kernel messages below "error" off the console, makes a
// kernel panic end in a reboot, and has Ctrl-Alt-Del reach process 1.
func setKernel(root string) []error {
	var errs []error
	for _, s := range []struct{ path, value string }{
		{"proc/sys/kernel/printk", "4 4 1 7\n"},
		{"proc/sys/kernel/panic", "30\n"},
		{"proc/sys/kernel/ctrl-alt-del", "0\n"},
	} {
		if err := os.WriteFile(filepath.Join(root, s.path), []byte(s.value), 0o644); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
