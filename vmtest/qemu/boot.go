package qemu

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/ingot-metal/ingot/vmtest/qemu/nvram"
)

// arrange carries a boot wish to the firmware: on BIOS by the order of
// bootindex, on UEFI by variables.
func (c *Config) arrange(b Boot) (plan, error) {
	if c.Firmware == BIOS {
		if b.Device == PXE {
			return plan{order: []Device{PXE, HDD}}, nil
		}
		return plan{order: []Device{HDD, PXE}}, nil
	}
	if err := c.ensureVars(); err != nil {
		return plan{}, err
	}
	if b.Device == Default {
		return plan{}, nil // BootOrder rules
	}
	s, err := nvram.Open(c.Varsfile())
	if err != nil {
		return plan{}, err
	}
	option, ok := c.choose(s.Options(), b.Device)
	if !ok {
		// A store that never booted has no options yet. bootindex makes OVMF
		// write a BootOrder, so it is only for this case.
		return plan{order: []Device{b.Device}, noPXE: b.Device == HTTP}, nil
	}
	if b.Persistent {
		order := slices.DeleteFunc(s.Order(), func(n uint16) bool { return n == option.Number })
		err = s.SetOrder(append([]uint16{option.Number}, order...))
	} else {
		err = s.SetNext(option.Number)
	}
	if err != nil {
		return plan{}, fmt.Errorf("boot %s of %s: %w", b.Device, c.Name, err)
	}
	c.Log.Info("boot option set", "option", option.String(), "persistent", b.Persistent)
	return plan{}, s.Save()
}

// choose finds the option for a device; for the network that of the first
// NIC that has one.
func (c *Config) choose(all []nvram.Option, dev Device) (nvram.Option, bool) {
	kinds := map[Device]nvram.Kind{PXE: nvram.PXE4, HTTP: nvram.HTTP4, HDD: nvram.Disk, Setup: nvram.App}
	if c.Firmware == UEFIHTTP && dev == PXE {
		dev = HTTP // "network" is all that a BMC can say
	}
	kind, ok := kinds[dev]
	if !ok {
		return nvram.Option{}, false
	}
	if dev == PXE || dev == HTTP {
		for _, n := range c.NICs {
			if found := nvram.Find(all, kind, n.MAC); len(found) > 0 {
				return found[0], true
			}
		}
		return nvram.Option{}, false
	}
	if found := nvram.Find(all, kind, nil); len(found) > 0 {
		return found[0], true
	}
	return nvram.Option{}, false
}

// ensureVars gives a new machine an empty variable store of its own.
func (c *Config) ensureVars() error {
	_, err := os.Stat(c.Varsfile())
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b, err := os.ReadFile(c.OVMFVars)
	if err != nil {
		return fmt.Errorf("read OVMF's variable template (Debian package ovmf): %w", err)
	}
	if err := os.WriteFile(c.Varsfile(), b, 0o600); err != nil {
		return fmt.Errorf("make UEFI variables of %s: %w", c.Name, err)
	}
	return nil
}
