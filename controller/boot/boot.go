// Package boot decides what a machine is offered while it starts over the
// network, and serves it over HTTP. Below it dhcp, tftp, ipxe and ra speak the
// protocols.
//
// Everything is answered at request time from what the store says (Leases and
// Directory below); nothing is rendered into files and no lease lives here.
// The way of one boot:
//
//	firmware --DHCP--> Decide: loader for its architecture (TFTP or HTTP)
//	loader   --DHCP--> Decide: URL of the boot script
//	loader   --GET /boot/script--> Directory.BootTarget, then one of
//	    agent:   Directory.SessionOpen, kernel, initramfs, command line with the nonce
//	    disk:    the firmware's own disk (BIOS) or localboot.efi (UEFI)
//	    nothing: a sentence on the console, then the firmware's next entry
//
// Only the contracts that the store must keep are in this file.
package boot

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/ingot-metal/ingot/controller/ipam"
)

// LeaseRequest is one DHCP client's wish, reduced to what a lease depends on.
type LeaseRequest struct {
	Client ipam.Client
	// Requested is the address the client asks for (option 50 or ciaddr); on
	// LeaseOffer a hint and may be zero, on LeaseCommit exactly this or nothing.
	Requested netip.Addr
	// Relay is giaddr; zero for a client on our own segment. When set, it alone
	// names the subnet (the one whose CIDR contains it).
	Relay netip.Addr
	// Interface is the prefix of our own interface the packet came in on, for
	// example 10.0.0.1/24 masked to 10.0.0.0/24; it names the subnet when Relay
	// is zero.
	Interface netip.Prefix
	// Server is our own address on that interface: never to be leased.
	Server netip.Addr
	Stage  ipam.Stage
	// Duration is how long the lease lasts from the commit, by the store's clock.
	Duration time.Duration
	// Hostname and VendorClass are as the client sent them (options 12 and 60):
	// hostile text of at most 255 bytes, for display only.
	Hostname    string
	VendorClass string
}

// Leases is the part of the store that gives addresses. All methods may be
// called in parallel, honour ctx, and answer from committed data.
//
// Errors that decide the answer: ipam.ErrNoRange (say nothing),
// ipam.ErrExhausted (say nothing, warn), ipam.ErrTaken (LeaseCommit: NAK).
// Any other error means that the store could not be asked; then nothing is
// answered beyond what was acknowledged before.
type Leases interface {
	// LeaseOffer chooses an address and may hold it for the client for a
	// minute or so; it gives no right to the address.
	LeaseOffer(ctx context.Context, r LeaseRequest) (ipam.Lease, error)
	// LeaseCommit gives r.Requested to r.Client for at least r.Duration, and
	// returns only when that is durable. The client is told exactly r.Duration
	// (so the clocks of store and controller need not agree); when the store
	// keeps a longer lease, as that of the installed system while its firmware
	// boots, nobody is harmed. Asking again extends it.
	LeaseCommit(ctx context.Context, r LeaseRequest) (ipam.Lease, error)
	// LeaseRelease ends the client's lease of the address, if it holds it; the
	// address stays remembered as its previous one. Not holding it is no error.
	LeaseRelease(ctx context.Context, c ipam.Client, a netip.Addr) error
	// LeaseDecline puts an address that the client holds, and found in use by
	// somebody else, in quarantine. A client that does not hold it changes nothing.
	LeaseDecline(ctx context.Context, c ipam.Client, a netip.Addr) error
	// SubnetFind says where a client is (Relay, else Interface) without giving it
	// an address, for DHCPINFORM. ipam.ErrNoRange when we do not serve that place.
	SubnetFind(ctx context.Context, r LeaseRequest) (ipam.Subnet, error)
}

// FirmwareMode is the boot mode that a machine runs in now.
type FirmwareMode string

const (
	FirmwareBIOS FirmwareMode = "bios"
	FirmwareUEFI FirmwareMode = "uefi"
)

// TargetKind is what a machine that boots over the network should start.
type TargetKind string

const (
	// TargetAgent starts our agent. Unknown machines get it, and nothing else.
	TargetAgent TargetKind = "agent"
	// TargetDisk starts the installed system from the machine's own disk.
	TargetDisk TargetKind = "disk"
	// TargetNothing starts nothing: the firmware goes on to its next entry.
	TargetNothing TargetKind = "nothing"
)

// Target is the store's answer to "what should this machine start".
type Target struct {
	Kind TargetKind
	// MachineID is the short id of a known machine, "" for an unknown one. It is
	// shown on the console and in logs.
	MachineID string
	// Agent is read for TargetAgent, and may be zero.
	Agent AgentTarget
	// Disk is read for TargetDisk.
	Disk DiskTarget
	// Reason is a sentence for a person, read for TargetNothing.
	Reason string
}

// AgentTarget is what differs from machine to machine when the agent starts.
type AgentTarget struct {
	// Console lists kernel consoles such as "ttyS1,115200"; empty for the default.
	Console []string
	// LogLevel of kernel and agent, "" for the default.
	LogLevel string
	// Extra kernel parameters of the site or machine, one word each.
	Extra []string
}

// DiskTarget says where the installed system's loader is.
type DiskTarget struct {
	// FirmwareMode that the system was installed for. "" means whatever the
	// machine boots in now.
	FirmwareMode FirmwareMode
	// PartitionGUID of the EFI system partition, canonical lower-case form; UEFI only.
	PartitionGUID string
	// LoaderPath inside it with forward slashes, for example
	// /EFI/BOOT/BOOTX64.EFI; UEFI only.
	LoaderPath string
}

// SessionRequest is what a boot loader told about itself when it fetched the
// boot script. All of it is a claim, none of it a credential.
type SessionRequest struct {
	MAC net.HardwareAddr
	// UUID is the SMBIOS system UUID in canonical lower-case big-endian form (as
	// iPXE and Linux print it), "" when not told.
	UUID string
	// Arch is x86_64, i386, arm64 or arm32 as the loader was built, which under
	// BIOS is i386 whatever the CPU is.
	Arch         string
	FirmwareMode FirmwareMode
	// Interface is the address of ours that was asked, for the record.
	Interface string
}

// Session is one open boot window.
type Session struct {
	// Nonce is a secret of one machine and one boot; it goes on the kernel
	// command line and must not be logged.
	Nonce     string
	ExpiresAt time.Time
}

// Directory is the part of the store that knows machines. Methods may be called
// in parallel and honour ctx.
type Directory interface {
	// BootTarget says what the machine with this MAC (then UUID, "" for unknown)
	// should start. It changes nothing and consumes nothing: firmware asks by
	// HEAD, retries, and tries its second NIC. An unknown machine is
	// TargetAgent, not an error.
	BootTarget(ctx context.Context, mac net.HardwareAddr, uuid string) (Target, error)
	// SessionOpen returns the open boot session of this MAC, making one if there
	// is none. Within the window of an open, unclaimed session the same nonce
	// comes back, so that fetching the script twice harms nobody.
	SessionOpen(ctx context.Context, r SessionRequest) (Session, error)
}

// What names a thing that was seen of a starting machine.
type What string

const (
	SeenDiscover  What = "dhcp_discover"  // DHCPDISCOVER arrived
	SeenOffer     What = "dhcp_offer"     // an address was offered
	SeenAck       What = "dhcp_ack"       // a lease was acknowledged
	SeenNak       What = "dhcp_nak"       // a lease was refused
	SeenSilence   What = "dhcp_silence"   // a request was left unanswered; Detail says why
	SeenDecline   What = "dhcp_decline"   // the client found its address in use
	SeenLoader    What = "loader_sent"    // a loader was sent whole, by TFTP or HTTP
	SeenScript    What = "script_sent"    // the boot script was sent
	SeenKernel    What = "kernel_sent"    // the kernel was sent whole
	SeenInitramfs What = "initramfs_sent" // the initramfs was sent whole
	SeenLocalBoot What = "localboot_sent" // the loader that starts the disk was sent
	SeenFailure   What = "boot_failure"   // a request could not be served; Detail says why
)

// Observation is one line of a machine's timeline. It is never evidence (D5).
type Observation struct {
	// MAC is empty when only an address is known; then Addr is set.
	MAC  net.HardwareAddr
	UUID string
	Addr netip.Addr
	What What
	// Detail is a short text for a person; may quote what the client sent, bounded.
	Detail string
	At     time.Time
}

// Observer takes observations. BootObserved never blocks and never fails: it
// may drop what it cannot keep, and says so in its own metrics.
type Observer interface {
	BootObserved(ctx context.Context, o Observation)
}

// ErrUnavailable wraps errors of the store that mean "ask again later".
var ErrUnavailable = errors.New("the controller cannot reach its database")
