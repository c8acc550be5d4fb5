package boot

import (
	"fmt"
	"net"
	"net/url"
)

// Names of the files that firmware and loaders can be sent, all of them in one
// directory (Config.Dir, tftp.Config.Dir). Nothing else in it is ever served.
const (
	FileUndionly  = "undionly.kpxe"   // iPXE for BIOS on the firmware's own driver
	FileSNPOnly   = "snponly.efi"     // iPXE for UEFI on the firmware's own driver
	FileIPXE      = "ipxe.efi"        // iPXE for UEFI with its own drivers
	FileLocalBoot = "localboot.efi"   // GRUB that starts a named loader of a named partition
	FileKernel    = "vmlinuz"         // the agent's kernel
	FileInitramfs = "initramfs.zst"   // the agent's initramfs
	ScriptPath    = "/boot/script"    // the boot script, made at request time
	filePrefix    = "/boot/"          // where files are served over HTTP
	classPXE      = "PXEClient"       // option 60 prefix of PXE firmware, RFC 4578 section 2
	classHTTP     = "HTTPClient"      // option 60 prefix of UEFI HTTP boot, UEFI 2.10 section 24.7
	mimeEFI       = "application/efi" // the type UEFI HTTP boot knows an EFI application by
	mimeScript    = "text/plain"      // iPXE does not look at it
	mimeBlob      = "application/octet-stream"
)

// TFTPFiles lists the loaders that may be fetched by TFTP.
func TFTPFiles() []string { return []string{FileUndionly, FileSNPOnly, FileIPXE} }

// Arch is a processor architecture and firmware as DHCP option 93 numbers them
// (RFC 4578 section 2.1 and IANA's list).
type Arch uint16

const (
	ArchBIOS      Arch = 0
	ArchIA32      Arch = 6
	ArchX64       Arch = 7
	ArchX64Too    Arch = 9 // IANA's "EBC", which some x64 firmware sends
	ArchARM64     Arch = 11
	ArchX64HTTP   Arch = 16
	ArchARM64HTTP Arch = 19
)

// Asker is what a DHCP client said about itself, as far as booting goes.
type Asker struct {
	// IPXE is true when the client is iPXE: user class "iPXE" (option 77) or its
	// encapsulated options (175).
	IPXE bool
	// VendorClass is option 60 as sent.
	VendorClass string
	// Archs is option 93, the preferred first; empty when it was not sent.
	Archs []Arch
	MAC   net.HardwareAddr
	// UUID in canonical form, from option 97; "" when absent or not usable.
	UUID string
}

// Boots reports whether the client is firmware or a loader that wants to boot,
// as opposed to a running operating system that wants an address.
func (a Asker) Boots() bool { return a.IPXE || a.class() != "" }

func (a Asker) class() string {
	for _, c := range []string{classPXE, classHTTP} {
		if len(a.VendorClass) >= len(c) && a.VendorClass[:len(c)] == c {
			return c
		}
	}
	return ""
}

func (a Asker) arch() (Arch, bool) {
	if len(a.Archs) == 0 {
		return 0, false
	}
	return a.Archs[0], true
}

// Offer is what DHCP adds to an address for a client that boots. The zero Offer
// adds nothing: the firmware goes on to its next boot entry.
type Offer struct {
	// File is the value of the file field and option 67: a name in
	// boot.TFTPFiles, or an http URL; "" for none.
	File string
	// TFTP is true when File is to be fetched by TFTP from us (siaddr, option 66).
	TFTP bool
	// VendorClass is what option 60 must answer, "" to leave it out. UEFI wants
	// "HTTPClient" back. "PXEClient" stays out on purpose: with it UEFI firmware
	// sends one more REQUEST to port 4011, which nobody serves in this mode.
	VendorClass string
	// IPXE adds option 175 with no-pxedhcp (b0 01 01), which spares iPXE of
	// 2019 its wait for a ProxyDHCP server.
	IPXE bool
	// Note says, when File is empty, why; for the machine's timeline.
	Note string
}

// Decide is the table of what a booting client is offered. base is our HTTP
// address as the client reaches it, for example http://10.0.0.1:8080.
//
// The order matters: iPXE keeps the vendor class of the firmware that loaded
// it, so the user class is asked first; otherwise it would load itself forever.
func Decide(a Asker, target TargetKind, base string) Offer {
	if a.IPXE {
		// iPXE always gets a script, for a script can tell a person on the
		// console why nothing starts.
		return Offer{File: ScriptURL(base, a), IPXE: true}
	}
	if a.class() == "" {
		return Offer{}
	}
	if target != TargetAgent && target != TargetDisk {
		return Offer{VendorClass: httpOnly(a), Note: "nothing is offered to this machine"}
	}
	arch, known := a.arch()
	switch {
	case a.class() == classHTTP && (arch == ArchX64HTTP || arch == ArchX64 || arch == ArchX64Too) && known:
		return Offer{File: base + filePrefix + FileIPXE, VendorClass: classHTTP}
	case a.class() == classPXE && arch == ArchBIOS:
		// Old ROMs leave option 93 out; all of those are BIOS.
		return Offer{File: FileUndionly, TFTP: true}
	case a.class() == classPXE && (arch == ArchX64 || arch == ArchX64Too):
		return Offer{File: FileSNPOnly, TFTP: true}
	}
	return Offer{VendorClass: httpOnly(a), Note: "no loader for this firmware (" + archName(arch, known) + ", " + a.class() + ")"}
}

func httpOnly(a Asker) string {
	if a.class() == classHTTP {
		return classHTTP
	}
	return ""
}

// ScriptURL is where iPXE gets its boot script. What DHCP already knows is
// written into it, so that the script handler needs no expansion by iPXE.
func ScriptURL(base string, a Asker) string {
	arch, known := a.arch()
	q := "mac=" + a.MAC.String()
	if a.UUID != "" {
		q += "&uuid=" + a.UUID
	}
	switch {
	case !known:
		// iPXE fills in what we do not know.
		q += "&arch=${buildarch}&platform=${platform}"
	case arch == ArchBIOS:
		q += "&arch=i386&platform=pcbios"
	case arch == ArchARM64 || arch == ArchARM64HTTP:
		q += "&arch=arm64&platform=efi"
	case arch == ArchIA32:
		q += "&arch=i386&platform=efi"
	default:
		q += "&arch=x86_64&platform=efi"
	}
	return base + ScriptPath + "?" + q
}

// localBootURL is where the loader of one installed system is made.
func localBootURL(base string, d DiskTarget, mac net.HardwareAddr) string {
	return base + filePrefix + FileLocalBoot + "?guid=" + url.QueryEscape(d.PartitionGUID) +
		"&path=" + url.QueryEscape(d.LoaderPath) + "&mac=" + mac.String()
}

func archName(a Arch, known bool) string {
	names := map[Arch]string{ArchBIOS: "x86 BIOS", ArchIA32: "32-bit x86 UEFI", ArchX64: "x64 UEFI", ArchX64Too: "x64 UEFI",
		ArchARM64: "arm64 UEFI", ArchX64HTTP: "x64 UEFI HTTP", ArchARM64HTTP: "arm64 UEFI HTTP"}
	if n, ok := names[a]; ok && known {
		return n
	}
	if !known {
		return "architecture not told"
	}
	return fmt.Sprintf("architecture %d", a)
}
