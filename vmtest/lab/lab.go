// Package lab is the whole system on one computer: a network, virtual machines
// with virtual BMCs that power them, and a controller with its database. The
// same lab serves `ingot lab`, `make demo` and the end-to-end tests; nothing in
// the controller knows of it.
//
//	host ── 127.0.0.1:PORT ──┐ (listening socket handed in)
//	namespace                ▼
//	  br0 10.99.0.1/24 ── ingotd (DHCP, TFTP, HTTP, API) ── private PostgreSQL
//	   ├─ 10.99.0.11.. BMC of each machine (IPMI 623/udp, Redfish 443/tcp)
//	   └─ taps ── QEMU: firmware, NBD disks that lose what was not flushed
//
// A Lab lives in a process that package lan started inside a new namespace.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/vmtest/lan"
)

// Config of a Lab. Paths are absolute.
type Config struct {
	Dir      string // holds disks, consoles, the controller's data, the context file
	Programs string // where ingotd is
	BootDir  string // kernel, initramfs and loaders
	Machines []Spec
	// ExtraArgs go to ingotd as they are.
	ExtraArgs []string
	Log       *slog.Logger
}

// Lab is a running lab. Its methods may be called concurrently.
type Lab struct {
	cfg        Config
	lan        *lan.LAN
	machines   []*Machine
	controller *Controller
	lock       *os.File
	log        *slog.Logger
}

var (
	address  = netip.MustParsePrefix("10.99.0.1/24")
	dhcpFrom = "10.99.0.100"
	dhcpTo   = "10.99.0.199"
)

// firstBMC is the last byte of the first BMC's address.
const firstBMC = 11

// Up brings up network, machines (powered off) and controller. On an error
// nothing is left running.
func Up(ctx context.Context, cfg Config) (_ *Lab, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "ingotd"), 0o755); err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, log: cfg.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.lock, err = lock(cfg.Dir); err != nil {
		return nil, err
	}
	if l.lan, err = lan.Up(lan.Config{Addr: address, Log: cfg.Log}); err != nil {
		return nil, err
	}
	for i, spec := range cfg.Machines {
		m, err := newMachine(l.lan, cfg, i, spec)
		if err != nil {
			return nil, fmt.Errorf("machine %s: %w", spec.Name, err)
		}
		l.machines = append(l.machines, m)
	}
	if l.controller, err = newController(cfg, l.lan); err != nil {
		return nil, err
	}
	return l, l.controller.Start(ctx)
}

// longestSocket is what Linux takes as a Unix socket's path, in bytes (unix(7)).
const longestSocket = 107

// Check says what a lab would want for, and changes nothing.
func (c Config) Check() error {
	if _, err := os.Stat(filepath.Join(c.Programs, "ingotd")); err != nil {
		return fmt.Errorf("%w; run make build first", err)
	}
	for _, name := range []string{"vmlinuz", "initramfs.zst"} {
		if _, err := os.Stat(filepath.Join(c.BootDir, name)); err != nil {
			return fmt.Errorf("%w; run make boot first", err)
		}
	}
	if len(c.Machines) == 0 || len(c.Machines) > 100 {
		return fmt.Errorf("a lab has 1 to 100 machines, not %d", len(c.Machines))
	}
	longest := socketPath(c.Dir)
	for _, m := range c.Machines {
		if s := filepath.Join(c.Dir, m.Name, "disk0.sock"); len(s) > len(longest) {
			longest = s
		}
	}
	if len(longest) > longestSocket {
		return fmt.Errorf("%s is too long for a socket, by %d bytes; name a shorter directory with --dir", longest, len(longest)-longestSocket)
	}
	return nil
}

// LAN is the lab's network.
func (l *Lab) LAN() *lan.LAN { return l.lan }

// Controller is the controller under test.
func (l *Lab) Controller() *Controller { return l.controller }

// Machine finds a machine by its name; nil when there is none.
func (l *Lab) Machine(name string) *Machine {
	for _, m := range l.machines {
		if m.Spec.Name == name {
			return m
		}
	}
	return nil
}

// Close stops everything and waits for it. Disks and logs stay in Dir.
func (l *Lab) Close() error {
	var errs []error
	if l.controller != nil {
		errs = append(errs, l.controller.Stop())
	}
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	if l.lan != nil {
		errs = append(errs, l.lan.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
