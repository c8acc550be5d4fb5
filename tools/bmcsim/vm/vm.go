// Package vm is the hardware of a simulated machine as a QEMU process: each
// POST starts a new one (package qemu says why), told what the BMC's boot
// override wants. Cutting power kills QEMU and makes its disks lose what the
// guest did not flush; a reset kills QEMU and leaves the disks' caches alone.
package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
	"github.com/ingot-metal/ingot/vmtest/disk"
	"github.com/ingot-metal/ingot/vmtest/qemu"
)

// Hardware makes POSTs of one VM. It implements machine.Hardware.
type Hardware struct {
	cfg   qemu.Config
	disks []*disk.Disk
	seed  uint64
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	vm     *qemu.VM   // the last one started
	cuts   uint64
	losses []disk.Loss
}

// New prepares the hardware. cfg.Console must be set, because it lives longer
// than one POST; cfg.Disks that are NBD sockets should be those of disks. The
// seed decides what disks lose when power is cut. Whoever made the disks and
// the console closes them, after the machine.
func New(cfg qemu.Config, disks []*disk.Disk, seed uint64) (*Hardware, error) {
	if cfg.Console == nil {
		return nil, errors.New("vm: the machine has no console")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Hardware{cfg: cfg, disks: disks, seed: seed, log: log}, nil
}

// devices translates override devices; one that the VM lacks boots by default.
var devices = map[machine.Device]qemu.Device{
	machine.PXE: qemu.PXE, machine.HTTP: qemu.HTTP, machine.Disk: qemu.HDD, machine.Setup: qemu.Setup,
}

// Start implements machine.Hardware.
func (h *Hardware) Start(ctx context.Context, b machine.Boot) (machine.Run, error) {
	v, err := qemu.Start(ctx, h.cfg, qemu.Boot{Device: devices[b.Device], Persistent: b.Persistent})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.vm = v
	h.mu.Unlock()
	return &run{h: h, vm: v}, nil
}

// VM is the last QEMU started, running or not; nil before the first.
func (h *Hardware) VM() *qemu.VM {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vm
}

// Console is the serial port through all POSTs.
func (h *Hardware) Console() *qemu.Console { return h.cfg.Console }

// Losses returns what the disks lost at each power cut, oldest first.
func (h *Hardware) Losses() []disk.Loss {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]disk.Loss(nil), h.losses...)
}

// cut takes power from the disks, each with a seed of its own.
func (h *Hardware) cut() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cuts++
	var sum disk.Loss
	for i, d := range h.disks {
		l, err := d.PlugPull(h.seed + h.cuts<<16 + uint64(i))
		if err != nil {
			return fmt.Errorf("cut power of disk %d: %w", i, err)
		}
		sum.Waiting, sum.Lost = sum.Waiting+l.Waiting, sum.Lost+l.Lost
	}
	h.losses = append(h.losses, sum)
	return nil
}

type run struct {
	h  *Hardware
	vm *qemu.VM
}

func (r *run) Done() <-chan struct{} { return r.vm.Done() }

func (r *run) Reason() machine.Reason {
	switch r.vm.Reason() {
	case "":
		return ""
	case qemu.GuestReset:
		return machine.GuestReset
	case qemu.GuestOff, qemu.HostQuit:
		return machine.GuestOff
	case qemu.Killed:
		return machine.Killed
	}
	r.h.log.Warn("QEMU died", "err", r.vm.Err())
	return machine.Lost
}

func (r *run) Kill(cut bool) error {
	err := r.vm.Kill()
	if cut {
		err = errors.Join(err, r.h.cut())
	}
	return err
}

func (r *run) PressPower() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return r.vm.PressPower(ctx)
}
