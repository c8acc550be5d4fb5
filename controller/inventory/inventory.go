// Package inventory judges what machines are made of: which disk an image goes
// to, what of a collection deserves a warning. It is pure.
package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Facts is what a collection says that is kept as rows; the collection itself
// is kept whole beside it.
type Facts struct {
	Architecture string
	BootMode     machine.BootMode
	UUID         string
	Serial       string
	Vendor       string
	Product      string
	MemoryBytes  uint64
	CPUThreads   uint32
	NICs         []machine.NIC
	Disks        []machine.Disk
	Warnings     []machine.Warning
}

// minDisk keeps card readers and boot modules out of the choice.
const minDisk = 64 << 20

// Need is what an image asks of a disk.
type Need struct {
	SizeBytes   uint64
	SectorBytes uint32
}

// ChooseDisk picks the disk to write: the one that wish names (serial, WWN or
// kernel name), else the best that holds the image, NVMe before SSD before
// virtual before HDD, the smallest first. Errors say which disks there are.
func ChooseDisk(disks []machine.Disk, wish string, need Need) (machine.Disk, error) {
	usable := slices.DeleteFunc(slices.Clone(disks), func(d machine.Disk) bool { return d.ReadOnly || d.Removable || d.SizeBytes < minDisk })
	if len(usable) == 0 {
		return machine.Disk{}, fault.New(fault.Precondition, "%s", machine.CauseOf(machine.ReasonNoDisks).Sentence)
	}
	if wish != "" {
		return named(usable, wish, need)
	}
	slices.SortStableFunc(usable, func(a, b machine.Disk) int {
		if r := rank(a.Kind) - rank(b.Kind); r != 0 {
			return r
		}
		if a.SizeBytes != b.SizeBytes {
			if a.SizeBytes < b.SizeBytes {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Serial, b.Serial)
	})
	var last error
	for _, d := range usable {
		err := fits(d, need)
		if err == nil && key(d) == "" {
			err = fault.New(fault.Precondition, "disk %s has neither serial nor WWN, so that it cannot be told from another", d.Name)
		}
		if err == nil {
			return d, nil
		}
		last = err
	}
	return machine.Disk{}, fault.New(fault.Precondition, "none of %s can take the image: %v", List(usable), last)
}

func named(disks []machine.Disk, wish string, need Need) (machine.Disk, error) {
	var found []machine.Disk
	for _, d := range disks {
		if d.Serial == wish || d.WWN == wish || d.Name == wish || "/dev/"+d.Name == wish {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], fits(found[0], need)
	case 0:
		return machine.Disk{}, fault.New(fault.Invalid, "no disk %q; the machine has %s", wish, List(disks))
	}
	return machine.Disk{}, fault.New(fault.Invalid, "%q names %d disks; use a serial or WWN that is one disk's own", wish, len(found))
}

func fits(d machine.Disk, need Need) error {
	if d.SizeBytes < need.SizeBytes {
		return fault.New(fault.Precondition, "disk %s has %d bytes, the image needs %d", key(d), d.SizeBytes, need.SizeBytes)
	}
	if need.SectorBytes != 0 && d.SectorBytes != 0 && d.SectorBytes != need.SectorBytes {
		return fault.New(fault.Precondition, "disk %s has sectors of %d bytes, the image is made for %d", key(d), d.SectorBytes, need.SectorBytes)
	}
	return nil
}

// key is what a disk is known by across boots: serial, else WWN.
func key(d machine.Disk) string {
	if d.Serial != "" {
		return d.Serial
	}
	return d.WWN
}

// List names disks for a person.
func List(disks []machine.Disk) string {
	var names []string
	for _, d := range disks {
		names = append(names, fmt.Sprintf("%s (%s, %s, %.1f GiB)", d.Name, d.Model, key(d), float64(d.SizeBytes)/(1<<30)))
	}
	return strings.Join(names, ", ")
}

func rank(k machine.DiskKind) int {
	for i, kind := range []machine.DiskKind{machine.DiskNVMe, machine.DiskSSD, machine.DiskVirtual, machine.DiskHDD} {
		if k == kind {
			return i
		}
	}
	return 4
}

// Erasable lists the disks that a release erases: all that are not read-only or
// removable, and a removable one that an image was put on.
func Erasable(disks []machine.Disk) []machine.Disk {
	return slices.DeleteFunc(slices.Clone(disks), func(d machine.Disk) bool { return d.ReadOnly || d.Removable && d.Data == nil })
}
