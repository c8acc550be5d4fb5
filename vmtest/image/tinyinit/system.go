package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is the second half: what the machine is for. It returns only when it
// cannot start; the machine then starts again.
func system() error {
	err := mountAll(
		mountPoint{"devtmpfs", "/dev", "mode=0755"}, mountPoint{"proc", "/proc", ""}, mountPoint{"sysfs", "/sys", ""},
		mountPoint{"tmpfs", "/run", "mode=0755"}, mountPoint{"tmpfs", "/tmp", "mode=1777"})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, unix.SIGPWR)
	defer stop()
	go watchPowerButton(stop)

	s, err := findSeed()
	if err != nil {
		say("problem", "err", err.Error())
	}
	hostname := s.Hostname
	if hostname == "" {
		hostname = "ingot-tiny"
	}
	if err := setHostname(hostname); err != nil {
		say("problem", "err", err.Error())
	}
	say("up", "hostname", hostname, "instance_id", s.InstanceID,
		"user_data_sha256", fmt.Sprintf("%x", sha256.Sum256(s.UserData)),
		"ssh_keys", strconv.Itoa(len(s.SSHKeys)), "boot_id", readLine("/proc/sys/kernel/random/boot_id"), "entered", entered())

	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(ctx, s, hostname)
	}()
	<-ctx.Done()
	<-done
	return powerOff()
}

// serve brings up the network, reports, and keeps the leases until ctx ends.
func serve(ctx context.Context, s seed, hostname string) {
	if err := linkUp("lo"); err != nil {
		say("problem", "err", err.Error())
	}
	ready := make(chan struct{}, 1)
	leases := make(chan struct{})
	go func() {
		defer close(leases)
		holdLeases(ctx, s.Network, hostname, ready)
	}()
	select {
	case <-ready:
		if err := reportOnce(ctx, s, hostname); err != nil {
			say("problem", "err", err.Error())
		}
	case <-ctx.Done():
	}
	<-leases
}

// setHostname also writes it down, as any system does.
func setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname %q: %w", name, err)
	}
	if err := os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return fmt.Errorf("write hostname: %w", err)
	}
	return nil
}

// entered says how this kernel was started, by the loader type in its boot
// parameters: 13 is kexec (the kernel's Documentation/arch/x86/boot.rst).
func entered() string {
	kind, err := strconv.Atoi(readLine("/proc/sys/kernel/bootloader_type"))
	if err == nil && kind>>4 == 13 {
		return "kexec"
	}
	return "firmware"
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// macs of all NICs but loopback, lower case with colons.
func macs() []string {
	nics, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range nics {
		if n.Flags&net.FlagLoopback == 0 && len(n.HardwareAddr) > 0 {
			out = append(out, n.HardwareAddr.String())
		}
	}
	return out
}

// watchPowerButton calls off when a power button is pressed: an input event of
// type EV_KEY (1), code KEY_POWER (116), value 1 (linux/input.h).
func watchPowerButton(off func()) {
	events, _ := filepath.Glob("/dev/input/event*") // the pattern is well formed
	for _, path := range events {
		go func() {
			f, err := os.Open(path)
			if err != nil {
				return
			}
			defer f.Close()
			b := make([]byte, 24) // struct input_event on 64 bits
			for {
				if n, err := f.Read(b); err != nil || n != len(b) {
					return
				}
				if b[16] == 1 && b[17] == 0 && b[18] == 116 && b[19] == 0 && b[20] == 1 {
					off()
					return
				}
			}
		}()
	}
}

// powerOff leaves the root filesystem clean.
func powerOff() error {
	say("power-off")
	unix.Sync()
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		say("problem", "err", fmt.Sprintf("remount root read-only: %v", err))
	}
	return fmt.Errorf("power off: %w", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}
