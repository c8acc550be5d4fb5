// Package power speaks to the BMCs that switch machines on and off. It holds
// the Driver interface and its contract, the kinds of errors, the operations
// composed of a driver's calls (Cycle, EnsureOn, EnsureOff), and the wrappers
// that every driver gets (Opener). The drivers are in the packages below it.
//
// BMCs lie: they answer yes and do nothing, store half of what they were
// given, and hang. So nothing here believes an answer to a write: what was
// written is read back, and what was ordered is watched until it has happened.
package power

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
)

// State is what a BMC says about a machine's power.
type State int

// The states. StateUnknown is also a machine on its way from one to the other.
const (
	StateUnknown State = iota
	StateOff
	StateOn
)

// String gives "unknown", "off" or "on".
func (s State) String() string {
	switch s {
	case StateOff:
		return "off"
	case StateOn:
		return "on"
	}
	return "unknown"
}

// Device is where a machine boots from.
type Device string

// The devices. DeviceNone takes an override back.
const (
	DeviceNone  Device = "none"
	DevicePXE   Device = "pxe"
	DeviceHTTP  Device = "http" // UEFI HTTP boot; IPMI cannot say it
	DeviceDisk  Device = "disk"
	DeviceSetup Device = "bios"  // the firmware's setup screens
	DeviceOther Device = "other" // read back only: something that has no name here
)

// Mode is how the firmware starts what it boots.
type Mode string

// The modes. ModeAny leaves it as it is where the protocol can say so
// (Redfish); IPMI has no such word and then asks for UEFI.
const (
	ModeAny  Mode = ""
	ModeBIOS Mode = "bios"
	ModeUEFI Mode = "uefi"
)

// BootOverride asks the firmware to boot from somewhere else than its own
// order says: for the next boot (Once) or until it is taken back.
type BootOverride struct {
	Device Device
	Once   bool
	Mode   Mode
}

// String gives for instance "pxe once uefi".
func (o BootOverride) String() string {
	if o.Device == DeviceNone || o.Device == "" {
		return "none"
	}
	life := "persistent"
	if o.Once {
		life = "once"
	}
	if o.Mode == ModeAny {
		return string(o.Device) + " " + life
	}
	return string(o.Device) + " " + life + " " + string(o.Mode)
}

// Validate refuses what no driver could do.
func (o BootOverride) Validate() error {
	switch o.Device {
	case DeviceNone, DevicePXE, DeviceHTTP, DeviceDisk, DeviceSetup:
	default:
		return fmt.Errorf("boot device %q: use pxe, http, disk, bios or none", o.Device)
	}
	switch o.Mode {
	case ModeAny, ModeBIOS, ModeUEFI:
	default:
		return fmt.Errorf("boot mode %q: use bios, uefi or nothing", o.Mode)
	}
	if o.Device == DeviceHTTP && o.Mode == ModeBIOS {
		return fmt.Errorf("boot device http needs mode uefi, not bios")
	}
	return nil
}

// Readback is what a BMC answers when it is asked for the override it holds:
// the evidence that a write was stored (not that the firmware will obey).
type Readback struct {
	Override BootOverride
	// Raw is what the BMC said, in its protocol's own words, for the record.
	Raw string
	// Warning is something that the operator should know, such as flags that
	// run out after a minute. Empty if there is nothing.
	Warning string
}

// Identity is what a BMC says about itself and its machine. Any field may be
// empty; all are hostile input, cut to a sane length and free of control
// characters.
type Identity struct {
	Driver   string // "redfish", "ipmi" or "manual"
	Vendor   string
	Model    string
	Serial   string // of the system, or of its board
	SKU      string // Dell's service tag, HPE's product number
	Firmware string // version of the BMC's firmware
	// SystemUUID is lower case with hyphens, in the order SMBIOS prints it.
	// BMCs disagree about byte order: compare both.
	SystemUUID string
	// Resets are the reset types that the BMC says it can do, in Redfish's
	// words (On, ForceOff, GracefulShutdown, ...).
	Resets []string
	// CertificateSHA256 is the fingerprint of the certificate the BMC showed,
	// lower-case hex; empty where there is no TLS. To be stored and handed
	// back in Access: the first one seen is trusted, a change is an error.
	CertificateSHA256 string
	// Quirks are the names of the rules of the quirk table that matched, Flags
	// what they say together.
	Quirks []string
	Flags  Flags
}

// Driver drives one BMC. Its contract, kept by every implementation and
// tested by powertest.Run:
//
//   - Calls may come in parallel; they are carried out one at a time.
//   - Every call ends when ctx does. A call on a ctx that has ended is refused
//     before it changes anything. A call without a deadline gets one.
//   - On, Off, SoftOff and Reset return when the BMC took the order, not when
//     it has happened: State tells. Asking for what already is so is no error
//     for On and Off.
//   - BootSet writes and reads back. If the BMC says yes and stores nothing
//     the error is ErrIgnored, and the Readback holds what it has instead.
//   - Errors are *Error with one Kind; Temporary tells whether asking again
//     later may help. No error and no log line holds a credential.
//   - Close ends the session at the BMC, as far as ctx allows, and frees
//     everything whatever the BMC says. Calls after Close fail.
type Driver interface {
	State(ctx context.Context) (State, error)
	On(ctx context.Context) error
	// Off cuts the power; what the disks have not flushed is lost.
	Off(ctx context.Context) error
	// SoftOff asks the operating system to shut down; it may not.
	SoftOff(ctx context.Context) error
	// Reset restarts without a moment of no power. Its effect cannot be seen
	// in State, so Cycle is to be preferred. Refused with ErrUnsupported, or
	// without effect, on a machine that is off.
	Reset(ctx context.Context) error
	// RestartBMC restarts the BMC itself; the machine keeps its power. It
	// returns when the BMC took the order: it is silent for a while then, and
	// has forgotten its sessions.
	RestartBMC(ctx context.Context) error
	// BootGet reads the override in force.
	BootGet(ctx context.Context) (Readback, error)
	// BootSet stores an override, or takes it back with DeviceNone.
	BootSet(ctx context.Context, o BootOverride) (Readback, error)
	Identify(ctx context.Context) (Identity, error)
	Close(ctx context.Context) error
}

// Access is how to reach a BMC, as an operator stated it.
type Access struct {
	// URL: "redfish://host[:port]", "redfish+https://…" (the same),
	// "redfish+http://…" (no TLS, for labs), each with an optional
	// "?system=ID"; "ipmi://host[:port][?cipher=17]"; "manual:".
	URL      string
	User     string
	Password Secret
	// CertificateSHA256 pins the BMC's leaf certificate, hex with or without
	// colons. Empty trusts the first one seen; Identify returns it.
	CertificateSHA256 string
}

// Target is an Access that was checked, as a Factory gets it.
type Target struct {
	URL      *url.URL
	User     string
	Password Secret
	// Pin is lower-case hex without colons, or empty.
	Pin    string
	Quirks Quirks
	Log    *slog.Logger
}

// Factory makes a driver. It does not yet talk to the BMC: that happens in
// the first call, whose ctx limits it.
type Factory func(t Target) (Driver, error)

// Factories names the factory for each scheme of a URL. The daemon fills it
// in; a scheme that is missing is refused with the list of those that exist.
type Factories map[string]Factory
