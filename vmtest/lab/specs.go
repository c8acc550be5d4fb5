package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/vmtest/qemu"
)

const gib = 1 << 30

// kinds are the machines that a lab can have, by name.
var kinds = []Spec{
	{Name: "bios", Firmware: qemu.BIOS, NICs: 2, Disks: []DiskSpec{{Bus: qemu.VirtioBlk, SizeBytes: 8 * gib}}, Protocol: "ipmi"},
	{Name: "uefi", Firmware: qemu.UEFI, Disks: []DiskSpec{{Bus: qemu.NVMe, SizeBytes: 8 * gib}}, Protocol: "redfish"},
	{Name: "http", Firmware: qemu.UEFIHTTP, Disks: []DiskSpec{{Bus: qemu.SCSI, SizeBytes: 8 * gib}}, Protocol: "ipmi"},
}

// Kinds are the names of the machines that Specs knows.
func Kinds() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.Name)
	}
	return names
}

// Specs finds machines by name.
func Specs(names []string) ([]Spec, error) {
	var specs []Spec
	for _, name := range names {
		i := slices.IndexFunc(kinds, func(s Spec) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no machine %q; there are %s", name, strings.Join(Kinds(), ", "))
		}
		specs = append(specs, kinds[i])
	}
	return specs, nil
}
