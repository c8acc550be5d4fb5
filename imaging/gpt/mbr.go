package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	mbrBytes       = 512
	mbrEntries     = 446 // before them is boot code, which stays as it is
	typeProtective = 0xee
	typeLinux      = 0x83
	typeESP        = 0xef
)

// MBR is a classic partition table. This package only reads it, to say what an
// image has; it changes no more than the protective entry of a GPT disk.
type MBR struct {
	Partitions []MBRPartition // the used ones of the four primary entries
}

// MBRPartition counts in sectors of the disk.
type MBRPartition struct {
	Number   int // 1 to 4
	Type     byte
	Active   bool
	FirstLBA uint32
	Sectors  uint32
}

// ReadMBR reads the classic table; a protective MBR and no table at all are
// both ErrNoTable.
func ReadMBR(r io.ReaderAt) (*MBR, error) {
	mbr, err := readMBR(r)
	if err != nil {
		return nil, fmt.Errorf("read MBR: %w", err)
	}
	if mbr.protective() || len(mbr.Partitions) == 0 {
		return nil, fmt.Errorf("read MBR: %w", ErrNoTable)
	}
	return mbr, nil
}

// Root is the largest primary partition of Linux's type.
func (m *MBR) Root() (MBRPartition, bool) {
	var best MBRPartition
	for _, p := range m.Partitions {
		if p.Type == typeLinux && p.Sectors > best.Sectors {
			best = p
		}
	}
	return best, best.Number != 0
}

// ESP is the first partition of EFI's type.
func (m *MBR) ESP() (MBRPartition, bool) {
	i := slices.IndexFunc(m.Partitions, func(p MBRPartition) bool { return p.Type == typeESP })
	if i < 0 {
		return MBRPartition{}, false
	}
	return m.Partitions[i], true
}

func (m *MBR) protective() bool {
	return slices.ContainsFunc(m.Partitions, func(p MBRPartition) bool { return p.Type == typeProtective })
}

// readMBR accepts entries as a boot sector of a filesystem would not have
// them: the flag byte is 0 or 0x80 and the range is not empty.
func readMBR(r io.ReaderAt) (*MBR, error) {
	var sector [mbrBytes]byte
	n, err := r.ReadAt(sector[:], 0)
	if n < len(sector) {
		if err == nil || errors.Is(err, io.EOF) {
			return &MBR{}, nil
		}
		return nil, fmt.Errorf("LBA 0: %w", err)
	}
	mbr := &MBR{}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return mbr, nil
	}
	for i := range 4 {
		e := sector[mbrEntries+16*i:]
		if e[0]&0x7f != 0 {
			return &MBR{}, nil
		}
		p := MBRPartition{
			Number: i + 1, Type: e[4], Active: e[0] == 0x80,
			FirstLBA: binary.LittleEndian.Uint32(e[8:]), Sectors: binary.LittleEndian.Uint32(e[12:]),
		}
		if p.Type != 0 && p.FirstLBA != 0 && p.Sectors != 0 {
			mbr.Partitions = append(mbr.Partitions, p)
		}
	}
	return mbr, nil
}

// setProtective writes the protective entry into a sector that may hold boot
// code: it covers the disk, or as much of it as 32 bits can (UEFI 2.10, section
// 5.2.3). In a hybrid MBR only the existing 0xEE entry that starts at LBA 1 is
// left alone, since the others follow it.
func setProtective(sector []byte, diskSectors uint64) {
	entry := sector[mbrEntries : mbrEntries+16]
	others := 0
	for i := range 4 {
		e := sector[mbrEntries+16*i : mbrEntries+16*i+16]
		switch e[4] {
		case 0:
		case typeProtective:
			entry = e
		default:
			others++
		}
	}
	signed := sector[510] == 0x55 && sector[511] == 0xaa
	if signed && others > 0 {
		return
	}
	size := uint32(min(diskSectors-1, 0xffffffff))
	active := entry[0] & 0x80 // some BIOSes start only disks with an active entry
	copy(entry, []byte{active, 0x00, 0x02, 0x00, typeProtective, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(entry[12:], size)
	sector[510], sector[511] = 0x55, 0xaa
}
