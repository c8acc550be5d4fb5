package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Signature is what a superblock says of itself.
type Signature struct {
	Kind  string // gpt, mbr, ext4, xfs, btrfs, vfat, swap, lvm, md, luks, zfs, iso9660, squashfs, ntfs, bcache
	Label string
	UUID  string // in the form that blkid prints; empty where there is none
}

func (s Signature) String() string {
	out := s.Kind
	if s.Label != "" {
		out += " label=" + s.Label
	}
	if s.UUID != "" {
		out += " uuid=" + s.UUID
	}
	return out
}

// maxSignatures bounds what is told of one disk.
const maxSignatures = 64

// magic is one way to recognise a superblock. uuid and label are offsets from
// the start of the volume; 0 for none.
type magic struct {
	kind        string
	at          int64
	bytes       string
	uuid, label int64
	labelLen    int
	littleUUID  bool // 4 bytes, printed as FAT does
}

var magics = []magic{
	{kind: "ext4", at: 0x438, bytes: "\x53\xef", uuid: 0x468, label: 0x478, labelLen: 16},
	{kind: "xfs", at: 0, bytes: "XFSB", uuid: 32, label: 108, labelLen: 12},
	{kind: "btrfs", at: 0x10040, bytes: "_BHRfS_M", uuid: 0x10020, label: 0x1012b, labelLen: 255},
	{kind: "vfat", at: 54, bytes: "FAT1", uuid: 39, label: 43, labelLen: 11, littleUUID: true},
	{kind: "vfat", at: 82, bytes: "FAT32", uuid: 67, label: 71, labelLen: 11, littleUUID: true},
	{kind: "ntfs", at: 3, bytes: "NTFS    "},
	{kind: "swap", at: 4086, bytes: "SWAPSPACE2", uuid: 1036, label: 1052, labelLen: 16},
	{kind: "lvm", at: 512, bytes: "LABELONE"},
	{kind: "md", at: 4096, bytes: "\xfc\x4e\x2b\xa9", uuid: 4096 + 16, label: 4096 + 32, labelLen: 32},
	{kind: "md", at: 0, bytes: "\xfc\x4e\x2b\xa9", uuid: 16, label: 32, labelLen: 32},
	{kind: "luks", at: 0, bytes: "LUKS\xba\xbe"},
	{kind: "iso9660", at: 0x8001, bytes: "CD001", label: 0x8028, labelLen: 32},
	{kind: "squashfs", at: 0, bytes: "hsqs"},
	{kind: "bcache", at: 4096 + 24, bytes: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{kind: "zfs", at: 128 << 10, bytes: "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
}

// probeBytes is how much of the start holds all that is looked for, but ZFS.
const probeBytes = 0x10000 + 4096

// Probe finds what lies at the start of a volume of size bytes (a disk or a
// partition). A volume that cannot be read is an error; one without anything
// known gives nothing.
func Probe(r io.ReaderAt, size int64) ([]Signature, error) {
	head := make([]byte, min(probeBytes, size))
	if n, err := r.ReadAt(head, 0); err != nil && n < len(head) {
		return nil, fmt.Errorf("look for signatures: %w", err)
	}
	found := tables(head)
	for _, m := range magics {
		data := head
		if m.kind == "zfs" {
			if data = zfsUberblocks(r, size); bytes.Contains(data, []byte(m.bytes)) {
				found = append(found, Signature{Kind: m.kind})
			}
			continue
		}
		if at(data, m.at, int64(len(m.bytes))) != m.bytes {
			continue
		}
		found = append(found, m.signature(data))
	}
	return found, nil
}

// zfsUberblocks reads the ring where ZFS keeps its uberblocks in the first
// label; any slot may be the one in use.
func zfsUberblocks(r io.ReaderAt, size int64) []byte {
	if size < 256<<10 {
		return nil
	}
	ring := make([]byte, 128<<10)
	if _, err := r.ReadAt(ring, 128<<10); err != nil {
		return nil
	}
	return ring
}

func (m magic) signature(data []byte) Signature {
	s := Signature{Kind: m.kind}
	if m.label != 0 {
		label, _, _ := strings.Cut(at(data, m.label, int64(m.labelLen)), "\x00")
		s.Label = clean(label)
		if s.Label == "NO NAME" {
			s.Label = ""
		}
	}
	switch {
	case m.littleUUID:
		if raw := at(data, m.uuid, 4); raw != "" {
			n := binary.LittleEndian.Uint32([]byte(raw))
			s.UUID = fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
		}
	case m.uuid != 0:
		if raw := at(data, m.uuid, 16); raw != "" && strings.Trim(raw, "\x00") != "" {
			h := hex.EncodeToString([]byte(raw))
			s.UUID = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
		}
	}
	return s
}

// tables looks for partition tables. A boot sector of FAT or NTFS ends in 55 AA
// too, and is no table.
func tables(head []byte) []Signature {
	if at(head, 512, 8) == "EFI PART" || at(head, 4096, 8) == "EFI PART" {
		return []Signature{{Kind: "gpt"}}
	}
	boot := at(head, 510, 2) == "\x55\xaa"
	if boot && !strings.HasPrefix(at(head, 54, 4), "FAT1") && at(head, 82, 5) != "FAT32" && at(head, 3, 4) != "NTFS" {
		return []Signature{{Kind: "mbr"}}
	}
	return nil
}

func at(data []byte, offset, length int64) string {
	if offset+length > int64(len(data)) {
		return ""
	}
	return string(data[offset : offset+length])
}

// Signatures reads what lies on the disk and on those of its partitions that
// the kernel knows. Partitions are told as "1: ext4 label=root uuid=…".
func (d Disk) Signatures() ([]string, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fmt.Errorf("look for signatures: %w", err)
	}
	defer f.Close()
	whole, err := Probe(f, int64(d.Info.SizeBytes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	var out []string
	for _, s := range whole {
		out = append(out, s.String())
	}
	parts, _ := filepath.Glob(filepath.Join(d.sysfs, d.Info.Name+"*", "partition"))
	for _, p := range parts[:min(len(parts), maxSignatures)] {
		dir := filepath.Dir(p)
		start, size := int64(number(dir, "start"))*512, int64(number(dir, "size"))*512
		if start <= 0 || size <= 0 || start+size > int64(d.Info.SizeBytes) {
			continue
		}
		found, err := Probe(io.NewSectionReader(f, start, size), size)
		if err != nil {
			return out, fmt.Errorf("%s, partition %s: %w", d.Path, text(dir, "partition"), err)
		}
		for _, s := range found {
			out = append(out, text(dir, "partition")+": "+s.String())
		}
	}
	return out[:min(len(out), maxSignatures)], nil
}
