package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
)

// LoadSystem reads kernel and initrds into memory for Kexec. The paths of s are
// looked for on the filesystems, in order; further words are put behind its
// command line. Afterwards the filesystems may be unmounted. Errors wrap
// ErrNoFile or ErrNotAllowed, or are the kernel's own.
func LoadSystem(ctx context.Context, h host.Host, filesystems []string, s System, further ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("load the installed kernel: %w", err)
	}
	if off, err := h.ReadString("/proc/sys/kernel/kexec_load_disabled"); err == nil && off != "0" {
		return fmt.Errorf("%w: this kernel has it switched off", ErrNotAllowed)
	}
	s.Args = joinLine(s, further)
	if err := s.check(); err != nil {
		return fmt.Errorf("load the installed kernel: %w", err)
	}
	kernel, err := locate(filesystems, s.Kernel)
	if err != nil {
		return fmt.Errorf("load the installed kernel: %w", err)
	}
	defer kernel.Close()
	if err := roomFor(h, filesystems, append([]string{s.Kernel}, s.Initrds...)); err != nil {
		return fmt.Errorf("load the installed kernel: %w", err)
	}
	initrd, err := gather(filesystems, s.Initrds)
	if err != nil {
		return fmt.Errorf("load the installed initrd: %w", err)
	}
	if err := load(kernel, initrd, s.Args); err != nil {
		return fmt.Errorf("load the installed kernel %s: %w", s.Kernel, err)
	}
	if got, err := h.ReadString("/sys/kernel/kexec_loaded"); err != nil || got != "1" {
		return errors.Join(fmt.Errorf("load the installed kernel %s: kexec_loaded reads %q afterwards", s.Kernel, got), err)
	}
	return nil
}

// loadCopies is how often a file lies in memory at the worst moment: in our own,
// as the kernel has read it, and where it will be started.
const loadCopies = 3

// roomFor refuses what would have the kernel kill this process for want of
// memory, half-way. What cannot be found or told is for others to complain of.
func roomFor(h host.Host, filesystems, names []string) error {
	available, err := h.MemAvailable()
	if err != nil {
		return nil
	}
	var total int64
	for _, name := range names {
		f, err := locate(filesystems, name)
		if err != nil {
			return nil
		}
		info, err := f.Stat()
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		total += info.Size()
	}
	if total*loadCopies > available {
		return fmt.Errorf("kernel and initrds have %d MiB, and with %d MiB of free memory they cannot be loaded", total>>20, available>>20)
	}
	return nil
}

// joinLine adds BOOT_IMAGE, which GRUB adds too and some initrds read, and the
// further words.
func joinLine(s System, further []string) string {
	words := []string{}
	if s.Kernel != "" && !strings.Contains(s.Args, "BOOT_IMAGE=") {
		words = append(words, "BOOT_IMAGE="+s.Kernel)
	}
	if s.Args != "" {
		words = append(words, s.Args)
	}
	return strings.Join(append(words, further...), " ")
}

// gather puts all initrds into one file in memory, each padded to four bytes as
// loaders do. It returns nil when there are none.
func gather(filesystems, names []string) (*os.File, error) {
	if len(names) == 0 {
		return nil, nil
	}
	fd, err := unix.MemfdCreate("initrd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("reserve memory: %w", err)
	}
	out := os.NewFile(uintptr(fd), "initrd")
	var total int64
	for _, name := range names {
		n, err := appendFile(out, filesystems, name, maxLoaded-total)
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		total += n
	}
	return out, nil
}

func appendFile(out *os.File, filesystems []string, name string, room int64) (int64, error) {
	in, err := locate(filesystems, name)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	n, err := io.Copy(out, io.LimitReader(in, room+1))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if n > room {
		return 0, fmt.Errorf("initrds have more than %d bytes together", maxLoaded)
	}
	padding := (4 - n%4) % 4
	if _, err := out.Write(make([]byte, padding)); err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n + padding, nil
}

// load calls kexec_file_load(2), which checks signatures where Secure Boot asks
// for them. It closes initrd.
func load(kernel, initrd *os.File, args string) (err error) {
	flags, fd := unix.KEXEC_FILE_NO_INITRAMFS, 0
	if initrd != nil {
		defer func() { err = errors.Join(err, initrd.Close()) }()
		flags, fd = 0, int(initrd.Fd())
	}
	err = unix.KexecFileLoad(int(kernel.Fd()), fd, args, flags)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.ENOKEY):
		return fmt.Errorf("%w: this kernel does not trust that one (Secure Boot), or the agent lacks the right: %w", ErrNotAllowed, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: this kernel cannot: %w", ErrNotAllowed, err)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%w: not a kernel image that can be started directly", err)
	}
	return err
}

// Kexec starts the loaded kernel. It does not return without an error. What is
// still mounted is flushed but not unmounted.
func Kexec() error { return end(unix.LINUX_REBOOT_CMD_KEXEC, "start the loaded kernel") }

// Reboot resets the machine through the firmware. It does not return without an
// error.
func Reboot() error { return end(unix.LINUX_REBOOT_CMD_RESTART, "reboot") }

// PowerOff switches the machine off. It does not return without an error.
func PowerOff() error { return end(unix.LINUX_REBOOT_CMD_POWER_OFF, "power off") }

func end(command int, what string) error {
	unix.Sync()
	if err := unix.Reboot(command); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	select {} // the machine is going down
}
