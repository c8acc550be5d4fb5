// Package disk knows the disks of the machine: it lists them from sysfs,
// chooses the one that was meant, says what lies on them and how they are, and
// erases them.
//
// A kernel name such as sda is an address for the length of one boot. What
// names a disk is its serial or its WWN, and where it has neither, the place
// that it is plugged into.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// Disk is one block device that an operating system could be put on.
type Disk struct {
	// Info is what goes into a collection; health and signatures are filled by
	// Health and Signatures.
	Info *hardware.Disk
	// Path of the device node, such as /dev/nvme0n1.
	Path string

	sysfs string // resolved directory of the block device
}

// maxDisks bounds a listing; a JBOD of several shelves has a few hundred.
const maxDisks = 1024

// notDisks are block devices that are no disks, or that are made of disks that
// are listed themselves.
var notDisks = regexp.MustCompile(`^(loop|ram|zram|sr|scd|fd|dm-|md|mtdblock|nbd|drbd|rbd|bcache|zd)\d*|^mmcblk\d+(boot\d+|rpmb|gp\d+)$`)

// List reads the disks of a host from sysfs, ordered by name. A disk without a
// medium is left out.
func List(h host.Host) ([]Disk, error) {
	root := h.Path("/")
	entries, err := os.ReadDir(filepath.Join(root, "sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var disks []Disk
	for _, e := range entries {
		if notDisks.MatchString(e.Name()) || len(disks) == maxDisks {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(root, "sys/block", e.Name()))
		if err != nil {
			continue // it went away in this moment
		}
		if d := read(root, dir, e.Name()); d.Info.SizeBytes > 0 && text(dir, "hidden") != "1" {
			disks = append(disks, d)
		}
	}
	slices.SortFunc(disks, func(a, b Disk) int { return strings.Compare(a.Info.Name, b.Info.Name) })
	return disks, nil
}

func read(root, dir, name string) Disk {
	info := &hardware.Disk{
		Name:                name,
		ByPath:              byPath(dir),
		Serial:              serial(dir),
		Wwn:                 wwn(dir),
		Model:               text(dir, "device/model"),
		Firmware:            firstOf(text(dir, "device/firmware_rev"), text(dir, "device/rev"), text(dir, "device/fwrev")),
		SizeBytes:           number(dir, "size") * 512, // in units of 512 bytes whatever the sector
		LogicalSectorBytes:  uint32(number(dir, "queue/logical_block_size")),
		PhysicalSectorBytes: uint32(number(dir, "queue/physical_block_size")),
		ReadOnly:            text(dir, "ro") == "1",
		Removable:           text(dir, "removable") == "1",
		Transport:           transport(dir, name),
	}
	// Of virtio and NVMe the file is a PCI id, which is no name for people.
	if v := text(dir, "device/vendor"); !strings.HasPrefix(v, "0x") {
		info.Vendor = v
	}
	info.Kind = kind(info, text(dir, "queue/rotational"))
	return Disk{Info: info, Path: filepath.Join(root, "dev", name), sysfs: dir}
}

func kind(d *hardware.Disk, rotational string) hardware.DiskKind {
	maker := strings.ToUpper(d.Vendor + " " + d.Model)
	switch {
	case strings.HasPrefix(d.Name, "nvme"):
		return hardware.DiskKind_DISK_KIND_NVME
	case d.Transport == "virtio", strings.Contains(maker, "QEMU"), strings.Contains(maker, "VMWARE"), strings.Contains(maker, "VIRTUAL"):
		return hardware.DiskKind_DISK_KIND_VIRTUAL
	case rotational == "1":
		return hardware.DiskKind_DISK_KIND_HDD
	case rotational == "0":
		return hardware.DiskKind_DISK_KIND_SSD
	}
	return hardware.DiskKind_DISK_KIND_UNSPECIFIED
}

// Usable tells whether the disk may be written to without being named: not
// read-only, and not the virtual media of a BMC or a stick that somebody left.
func (d Disk) Usable() bool {
	return !d.Info.ReadOnly && !d.Info.Removable && d.Info.Transport != "usb"
}

// Local tells whether no other machine can have this disk too: what is reached
// over a fabric may be somebody else's.
func (d Disk) Local() bool {
	return !slices.Contains([]string{"fc", "iscsi", "tcp", "rdma"}, d.Info.Transport)
}

// Same tells whether o, from a later listing, is this disk at this path.
func (d Disk) Same(o Disk) bool {
	a, b := d.Info, o.Info
	return d.Path == o.Path && a.Serial == b.Serial && a.Wwn == b.Wwn && a.ByPath == b.ByPath && a.SizeBytes == b.SizeBytes
}

// Name is how a disk is called in texts for people: what identifies it, and the
// kernel's name.
func (d Disk) Name() string {
	id := firstOf(d.Info.Serial, d.Info.Wwn, d.Info.ByPath)
	if id == "" {
		return d.Path
	}
	return id + " (" + d.Path + ")"
}

// Selector names one disk: all of its fields that are not empty must match.
// ByPath counts only where Serial and WWN are empty.
type Selector struct {
	Serial, WWN, ByPath string
	SizeBytes           uint64
}

func (s Selector) String() string {
	return firstOf(s.Serial, s.WWN, s.ByPath, "the unnamed disk")
}

// Errors of Pick.
var (
	ErrNone      = errors.New("this machine has no disk that can be written")
	ErrGone      = errors.New("the disk is not there")
	ErrAmbiguous = errors.New("more than one disk matches")
	ErrReadOnly  = errors.New("the disk is read-only")
)

// Pick finds the one disk that the selector names. ErrNone when there are no
// disks at all, ErrGone and ErrAmbiguous when not exactly one matches.
func Pick(disks []Disk, s Selector) (Disk, error) {
	if s.Serial == "" && s.WWN == "" && s.ByPath == "" {
		return Disk{}, errors.New("choose disk: none is named")
	}
	if !slices.ContainsFunc(disks, func(d Disk) bool { return !d.Info.ReadOnly }) {
		return Disk{}, fmt.Errorf("choose disk %s: %w", s, ErrNone)
	}
	var found []Disk
	for _, d := range disks {
		if s.matches(d.Info) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return Disk{}, fmt.Errorf("choose disk %s: %w; there are %s", s, ErrGone, names(disks))
	case len(found) > 1:
		return Disk{}, fmt.Errorf("choose disk %s: %w: %s", s, ErrAmbiguous, names(found))
	case found[0].Info.ReadOnly:
		return Disk{}, fmt.Errorf("choose disk %s: %w", s, ErrReadOnly)
	case s.SizeBytes != 0 && s.SizeBytes != found[0].Info.SizeBytes:
		return Disk{}, fmt.Errorf("choose disk %s: %w: the one of that name has %d bytes and not %d; commission the machine again",
			s, ErrGone, found[0].Info.SizeBytes, s.SizeBytes)
	}
	return found[0], nil
}

func (s Selector) matches(d *hardware.Disk) bool {
	if s.Serial == "" && s.WWN == "" {
		return d.ByPath == s.ByPath
	}
	return (s.Serial == "" || s.Serial == d.Serial) && (s.WWN == "" || s.WWN == d.Wwn)
}

func names(disks []Disk) string {
	var all []string
	for _, d := range disks {
		all = append(all, d.Name())
	}
	return strings.Join(all, ", ")
}

// text reads one small file of sysfs, trimmed; empty when it is not there.
func text(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || len(data) > 4096 {
		return ""
	}
	return clean(string(data))
}

// clean keeps printable ASCII and single blanks: what a disk says of itself is
// input like any other.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 256)]
}

func number(dir, name string) uint64 {
	n, err := strconv.ParseUint(text(dir, name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// Partition gives the device node of a partition by its number, from what the
// kernel knows at this moment.
func (d Disk) Partition(number int) (string, error) {
	parts, _ := filepath.Glob(filepath.Join(d.sysfs, d.Info.Name+"*", "partition"))
	for _, p := range parts {
		dir := filepath.Dir(p)
		if text(dir, "partition") == strconv.Itoa(number) {
			return filepath.Join(filepath.Dir(d.Path), filepath.Base(dir)), nil
		}
	}
	return "", fmt.Errorf("the kernel shows no partition %d on %s", number, d.Path)
}
