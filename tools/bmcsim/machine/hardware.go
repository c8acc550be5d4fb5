// Package machine is the board that a simulated BMC controls: power, reset,
// boot override and the true record of what happened to them. The BMC
// protocols (packages ipmi and redfish beside this one) only translate; the
// hardware below it is a QEMU process (package vm) or a pretence in memory.
//
// Every POST is one Start of the hardware, because a real BMC hands its boot
// flags to the firmware at each POST. A reset asked by the guest therefore
// ends the run, and the machine starts the next one.
package machine

import "context"

// Firmware is what boots the machine.
type Firmware string

// The firmwares. UEFI means without a legacy module, as on servers of today.
const (
	BIOS Firmware = "BIOS"
	UEFI Firmware = "UEFI"
)

// Device is what a boot override points at.
type Device string

// The devices that IPMI's and Redfish's overrides share. None means the
// firmware's own boot order.
const (
	None  Device = ""
	PXE   Device = "pxe"
	HTTP  Device = "http" // UEFI HTTP boot; Redfish only
	Disk  Device = "disk"
	CDROM Device = "cdrom"
	Setup Device = "setup"
	Other Device = "other" // known to the protocol, absent on this board
)

// Boot is what one POST is told by the BMC.
type Boot struct {
	Device     Device
	Persistent bool // the firmware makes it its own setting
}

// Reason says why a run ended.
type Reason string

// The reasons.
const (
	GuestReset Reason = "guest-reset"    // the guest, or the firmware, reset the machine
	GuestOff   Reason = "guest-shutdown" // ACPI S5
	Killed     Reason = "killed"         // by Kill
	Lost       Reason = "lost"           // the process died without being asked: power failed
)

// Hardware makes POSTs. Start is never called while a run lives.
type Hardware interface {
	// Start powers the board and begins one POST. The run outlives ctx.
	Start(ctx context.Context, b Boot) (Run, error)
}

// Run is the time between one POST and the next, or power-off.
type Run interface {
	// Done is closed when the run has ended.
	Done() <-chan struct{}
	// Reason says why; valid once Done is closed.
	Reason() Reason
	// Kill ends the run at once and waits for its end. With cut the board
	// loses power, so volatile caches of disks are lost; without it is a
	// reset line.
	Kill(cut bool) error
	// PressPower presses the ACPI power button; what comes of it is the
	// guest's affair.
	PressPower() error
}
