package agentapi

import (
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// Bounds on what is taken from a collection into rows. The collection itself
// is kept whole. The store refuses more than these.
const (
	maxText  = 200
	maxNICs  = 64
	maxDisks = 512
)

// facts turns a collection into rows. Everything in it is hostile: text is cut
// and cleaned, lists are bounded.
func facts(c *hardware.Collection) inventory.Facts {
	f := inventory.Facts{
		Architecture: text(c.GetArchitecture()),
		BootMode:     bootMode(c.GetFirmware().GetBootMode()),
		UUID:         text(c.GetSystem().GetUuid()),
		Serial:       text(c.GetSystem().GetSerial()),
		Vendor:       text(c.GetSystem().GetVendor()),
		Product:      text(c.GetSystem().GetProduct()),
		MemoryBytes:  c.GetMemory().GetTotalBytes(),
		CPUThreads:   c.GetCpu().GetThreads(),
	}
	for _, n := range c.GetNics()[:min(len(c.GetNics()), maxNICs)] {
		if nic, ok := nicOf(n); ok {
			f.NICs = append(f.NICs, nic)
		}
	}
	for _, d := range c.GetDisks()[:min(len(c.GetDisks()), maxDisks)] {
		f.Disks = append(f.Disks, diskOf(d))
	}
	if missing := c.GetMissingFirmware(); len(missing) > 0 {
		f.Warnings = append(f.Warnings, machine.Warning{
			Code: "firmware_missing",
			Text: text(fmt.Sprintf("drivers asked for firmware that the initramfs does not hold: %s; build it with a firmware directory", strings.Join(missing[:min(len(missing), 5)], ", "))),
		})
	}
	return f
}

func nicOf(n *hardware.NIC) (machine.NIC, bool) {
	mac, err := net.ParseMAC(n.GetPermanentMac())
	if err != nil {
		mac, err = net.ParseMAC(n.GetMac())
	}
	if err != nil || len(mac) == 0 {
		return machine.NIC{}, false
	}
	nic := machine.NIC{
		Name: text(n.GetName()), MAC: mac, LocallyAdministered: mac[0]&2 != 0,
		SpeedBitsPerSecond: n.GetSpeedBitsPerSecond(), LinkUp: n.GetLinkUp(), Driver: text(n.GetDriver()), BootNIC: n.GetBootNic(),
	}
	if len(n.GetNeighbours()) > 0 {
		first := n.GetNeighbours()[0]
		nic.Neighbour = text(first.GetSystemName() + " " + first.GetPortId())
	}
	return nic, true
}

func diskOf(d *hardware.Disk) machine.Disk {
	kinds := map[hardware.DiskKind]machine.DiskKind{
		hardware.DiskKind_DISK_KIND_NVME: machine.DiskNVMe, hardware.DiskKind_DISK_KIND_SSD: machine.DiskSSD,
		hardware.DiskKind_DISK_KIND_HDD: machine.DiskHDD, hardware.DiskKind_DISK_KIND_VIRTUAL: machine.DiskVirtual,
	}
	kind, ok := kinds[d.GetKind()]
	if !ok {
		kind = machine.DiskUnknown
	}
	health := map[hardware.DiskHealth_Verdict]string{
		hardware.DiskHealth_VERDICT_GOOD: "good", hardware.DiskHealth_VERDICT_FAILING: "failing",
	}[d.GetHealth().GetVerdict()]
	if health == "" {
		health = "unsupported"
	}
	return machine.Disk{
		Name: text(d.GetName()), Serial: text(d.GetSerial()), WWN: text(d.GetWwn()), ByPath: text(d.GetByPath()), Model: text(d.GetModel()),
		SizeBytes: d.GetSizeBytes(), SectorBytes: d.GetLogicalSectorBytes(), Kind: kind, Health: health,
		ReadOnly: d.GetReadOnly(), Removable: d.GetRemovable(),
	}
}

func bootMode(m hardware.BootMode) machine.BootMode {
	switch m {
	case hardware.BootMode_BOOT_MODE_BIOS:
		return machine.BootModeBIOS
	case hardware.BootMode_BOOT_MODE_UEFI:
		return machine.BootModeUEFI
	}
	return ""
}

// text makes what a machine sent fit to be shown: no control characters, valid
// UTF-8, at most maxText bytes.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.TrimSpace(s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
