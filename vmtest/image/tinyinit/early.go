package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	rootWait = 60 * time.Second
	// devicePause between two looks at the block devices: there is no udev, and
	// a look costs less than a millisecond.
	devicePause = 20 * time.Millisecond
)

// initramfs is the first half: drivers, root filesystem, and over to it.
func initramfs() error {
	err := mountAll(mountPoint{"devtmpfs", "/dev", "mode=0755"}, mountPoint{"proc", "/proc", ""}, mountPoint{"sysfs", "/sys", ""})
	if err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	wanted, err := rootUUID(string(cmdline))
	if err != nil {
		return err
	}
	device, err := waitForRoot(wanted)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, "/root", "ext4", 0, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount root filesystem %s: %w", device, err)
	}
	return enterRoot()
}

// loadModules loads every module that dir/order names, in that order.
func loadModules(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return fmt.Errorf("read module list: %w", err)
	}
	for name := range strings.FieldsSeq(string(order)) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("open module: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		// A module whose hardware is absent says ENODEV, which is fine.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			say("problem", "err", fmt.Sprintf("load module %s: %v", name, err))
		}
	}
	return nil
}

// rootUUID finds root=UUID= on the kernel command line.
func rootUUID(cmdline string) (string, error) {
	for word := range strings.FieldsSeq(cmdline) {
		if u, ok := strings.CutPrefix(word, "root=UUID="); ok {
			return strings.ToLower(u), nil
		}
	}
	return "", errors.New("the kernel command line has no root=UUID=")
}

func waitForRoot(wanted string) (string, error) {
	for deadline := time.Now().Add(rootWait); time.Now().Before(deadline); time.Sleep(devicePause) {
		for _, device := range blockDevices() {
			if u, ok := extUUID(device); ok && u == wanted {
				return device, nil
			}
		}
	}
	return "", fmt.Errorf("no filesystem with UUID %s appeared within %s; block devices: %v", wanted, rootWait, blockDevices())
}

// blockDevices lists /dev paths of all disks and partitions that are there now.
func blockDevices() []string {
	found, _ := filepath.Glob("/sys/class/block/*") // the pattern is well formed
	var out []string
	for _, f := range found {
		if name := filepath.Base(f); !strings.HasPrefix(name, "loop") && !strings.HasPrefix(name, "ram") {
			out = append(out, "/dev/"+name)
		}
	}
	return out
}

// extUUID reads the UUID of an ext4 filesystem: the superblock stands at byte
// 1024, in it the magic number at 0x38 and the UUID at 0x68 (the kernel's
// Documentation/filesystems/ext4/super.rst).
func extUUID(device string) (string, bool) {
	b := make([]byte, 0x78)
	if !readAt(device, b, 1024) || b[0x38] != 0x53 || b[0x39] != 0xef {
		return "", false
	}
	h := hex.EncodeToString(b[0x68:0x78])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"), true
}

func readAt(device string, b []byte, offset int64) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.ReadAt(b, offset)
	return err == nil
}

// enterRoot moves the kernel's filesystems over, makes /root the root, and
// executes its init. What the initramfs holds is freed by hand, since nothing
// can reach it afterwards.
func enterRoot() error {
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := unix.Mount("/"+dir, "/root/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", dir, err)
		}
	}
	for _, left := range []string{"/modules", "/init"} {
		if err := os.RemoveAll(left); err != nil {
			return fmt.Errorf("free the initramfs: %w", err)
		}
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	err := unix.Exec("/sbin/init", []string{"/sbin/init"}, os.Environ())
	return fmt.Errorf("execute /sbin/init: %w", err)
}
