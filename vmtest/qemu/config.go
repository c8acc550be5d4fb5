// Package qemu is one virtual machine: firmware, disks, NICs, console and the
// events by which QEMU tells what became of it.
//
// One VM is one POST: QEMU runs with -no-reboot, so a reset asked by the guest
// ends it with the reason guest-reset, and who owns the machine starts the
// next. A BMC hands its boot flags to firmware at each POST, and this is
// where it does. (kexec is no reset, so QEMU lives on through it.)
package qemu

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// Firmware is what the machine boots with.
type Firmware string

// The firmwares. UEFIHTTP is UEFI whose PXE is switched off, so that it boots
// by HTTP.
const (
	BIOS     Firmware = "bios"
	UEFI     Firmware = "uefi"
	UEFIHTTP Firmware = "uefi-http"
)

// UEFI says whether it is one of the UEFI firmwares.
func (f Firmware) UEFI() bool { return f != BIOS }

// Model is a NIC's hardware.
type Model string

// The models.
const (
	VirtioNet Model = "virtio-net-pci"
	E1000e    Model = "e1000e"
)

// NIC is one network card, plugged into a tap of package lan.
type NIC struct {
	MAC   net.HardwareAddr
	Tap   string
	Model Model // zero means VirtioNet
	// PXEROM leaves QEMU's iPXE option ROM in the card: the only way for BIOS;
	// on UEFI it replaces the firmware's own PXE and HTTP stack.
	PXEROM bool
}

// Bus is how a disk is attached.
type Bus string

// The buses.
const (
	VirtioBlk Bus = "virtio"
	NVMe      Bus = "nvme"
	SCSI      Bus = "scsi" // virtio-scsi
	SATA      Bus = "sata"
)

// Disk is one disk: an NBD socket of package disk, or a raw file.
type Disk struct {
	Bus        Bus // zero means VirtioBlk
	Serial     string
	NBD        string // Unix socket; or
	File       string // raw file
	SectorSize int    // 512 or 4096; zero means 512
}

// Config describes a machine.
type Config struct {
	Name         string
	UUID         uuid.UUID
	Manufacturer string // zero means Ingot
	Product      string // zero means Lab machine
	Serial       string
	MemoryMiB    int // zero means 1024
	CPUs         int // zero means 1
	Firmware     Firmware
	NICs         []NIC
	Disks        []Disk
	IPMI         string // Unix socket of a BMC that speaks QEMU's extern protocol; empty: none
	TPM          string // Unix control socket of swtpm; empty: none
	Dir          string // holds vars.fd (UEFI's memory) and console.log
	KVM          bool   // only after ProbeKVM said so
	QEMU         string // program; zero means qemu-system-x86_64
	OVMFCode     string // zero means Debian's OVMF_CODE_4M.fd
	OVMFVars     string // template of Dir/vars.fd; zero means Debian's
	Console      *Console
	Log          *slog.Logger
	Extra        []string // further arguments
}

// Device is what a boot override points at.
type Device string

// The devices. Default is the firmware's own order.
const (
	Default Device = ""
	PXE     Device = "pxe"
	HTTP    Device = "http"
	HDD     Device = "disk"
	Setup   Device = "setup"
)

// Boot is what this POST is told.
type Boot struct {
	Device     Device
	Persistent bool
}

// Varsfile is where the machine's UEFI variables live.
func (c *Config) Varsfile() string { return filepath.Join(c.Dir, "vars.fd") }

// prepare fills defaults and refuses what QEMU would refuse later and worse.
func (c *Config) prepare() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Manufacturer, "Ingot")
	def(&c.Product, "Lab machine")
	def(&c.QEMU, "qemu-system-x86_64")
	def(&c.OVMFCode, "/usr/share/OVMF/OVMF_CODE_4M.fd")
	def(&c.OVMFVars, "/usr/share/OVMF/OVMF_VARS_4M.fd")
	def((*string)(&c.Firmware), string(UEFI))
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 1024
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dir == "" || c.Name == "" {
		return errors.New("qemu: name and directory of the machine are required")
	}
	for _, d := range c.Disks {
		if (d.NBD == "") == (d.File == "") {
			return fmt.Errorf("qemu: disk %q of %s needs either a socket or a file", d.Serial, c.Name)
		}
	}
	for _, n := range c.NICs {
		if len(n.MAC) != 6 || n.Tap == "" {
			return fmt.Errorf("qemu: NIC of %s needs a MAC and a tap", c.Name)
		}
	}
	return os.MkdirAll(c.Dir, 0o755)
}
