// Package fat makes small FAT12 and FAT16 filesystems with a few files in their
// root directory, whole and in memory. It is for the partition that carries a
// first-boot seed: names such as "network-config" need the long-name entries of
// VFAT, and a few MiB on a disk with sectors of 4096 bytes are too small for
// FAT16, let alone FAT32.
//
//	[boot sector][FAT][FAT][root directory][cluster 2][cluster 3]…
//
// Source: Microsoft, "FAT: General Overview of On-Disk Format", version 1.03
// (fatgen103). Sections are named where they matter.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// File is one file of the root directory.
type File struct {
	// Name has 1 to 255 characters of ASCII letters, digits, and ._-
	Name string
	Data []byte
}

// Options of a filesystem.
type Options struct {
	SizeBytes  int64 // of the partition: 64 KiB to 256 MiB
	SectorSize int   // logical sector of the disk: 512 or 4096
	Label      string
	Serial     uint32    // volume id
	Time       time.Time // of all files, written in UTC
	// HiddenSectors is where the partition starts on the disk, in sectors.
	HiddenSectors uint32
}

// ErrNoRoom says that the files do not fit.
var ErrNoRoom = errors.New("not enough room in the FAT filesystem")

const (
	reserved    = 1 // sectors before the first FAT
	fats        = 2
	rootEntries = 512 // fits whole sectors of 512 and of 4096 bytes
	entryBytes  = 32
	media       = 0xf8 // fixed disk
	maxFAT12    = 4084 // clusters; one more makes it FAT16 (section "FAT type determination")
	maxFAT16    = 65524
)

// layout is where everything lies, in sectors.
type layout struct {
	sectorSize, sectors, perCluster int
	fatSectors, rootSectors         int
	clusters                        int
	fat16                           bool
}

// Build gives the whole filesystem, Options.SizeBytes long (cut to whole
// sectors).
func Build(o Options, files []File) ([]byte, error) {
	l, err := plan(o)
	if err != nil {
		return nil, fmt.Errorf("make FAT filesystem: %w", err)
	}
	v := &volume{layout: l, bytes: make([]byte, l.sectors*l.sectorSize), next: 2}
	v.bootSector(o)
	v.setFAT(0, 0xff00|media)
	v.setFAT(1, 0xffff)
	if err := v.addLabel(o); err != nil {
		return nil, fmt.Errorf("make FAT filesystem: %w", err)
	}
	for i, f := range files {
		if err := v.addFile(f, i+1, o.Time); err != nil {
			return nil, fmt.Errorf("make FAT filesystem: file %q: %w", f.Name, err)
		}
	}
	copy(v.fat(1), v.fat(0))
	return v.bytes, nil
}

// plan chooses the smallest cluster for which the count of clusters fits, and
// the FAT's size by trying, since each depends on the other.
func plan(o Options) (layout, error) {
	if o.SectorSize != 512 && o.SectorSize != 4096 {
		return layout{}, fmt.Errorf("sectors of %d bytes, only 512 and 4096 are known", o.SectorSize)
	}
	if o.SizeBytes < 64<<10 || o.SizeBytes > 256<<20 {
		return layout{}, fmt.Errorf("%d bytes are outside 64 KiB to 256 MiB", o.SizeBytes)
	}
	sectors := int(o.SizeBytes) / o.SectorSize
	for per := 1; per <= 64; per *= 2 {
		l := layout{sectorSize: o.SectorSize, sectors: sectors, perCluster: per,
			rootSectors: rootEntries * entryBytes / o.SectorSize}
		for l.fatSectors = 1; l.fatSectors <= 256; l.fatSectors++ {
			l.clusters = (sectors - reserved - fats*l.fatSectors - l.rootSectors) / per
			l.fat16 = l.clusters > maxFAT12
			// Drivers disagree by a few about the borders; stay clear of them.
			border := l.clusters > maxFAT12-16 && l.clusters < maxFAT12+16
			if l.clusters > 0 && l.clusters <= maxFAT16-16 && !border && l.fatBytes() <= l.fatSectors*o.SectorSize {
				return l, nil
			}
		}
	}
	return layout{}, fmt.Errorf("no FAT12 or FAT16 layout for %d bytes", o.SizeBytes)
}

func (l layout) fatBytes() int {
	if l.fat16 {
		return (l.clusters + 2) * 2
	}
	return ((l.clusters+2)*3 + 1) / 2
}

func (l layout) clusterBytes() int { return l.perCluster * l.sectorSize }

// bootSector writes the BIOS parameter block (section "Boot Sector and BPB").
func (v *volume) bootSector(o Options) {
	b := v.bytes
	le := binary.LittleEndian
	copy(b, []byte{0xeb, 0x3c, 0x90})
	copy(b[3:], "INGOT   ")
	le.PutUint16(b[11:], uint16(v.sectorSize))
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], reserved)
	b[16] = fats
	le.PutUint16(b[17:], rootEntries)
	if v.sectors < 1<<16 {
		le.PutUint16(b[19:], uint16(v.sectors))
	} else {
		le.PutUint32(b[32:], uint32(v.sectors))
	}
	b[21] = media
	le.PutUint16(b[22:], uint16(v.fatSectors))
	le.PutUint16(b[24:], 63)  // sectors a track and heads: of no use on a disk
	le.PutUint16(b[26:], 255) // with LBA, but 0 upsets some readers
	le.PutUint32(b[28:], o.HiddenSectors)
	b[36] = 0x80
	b[38] = 0x29 // serial, label and type follow
	le.PutUint32(b[39:], o.Serial)
	copy(b[43:], padded(o.Label, 11))
	kind := "FAT12"
	if v.fat16 {
		kind = "FAT16"
	}
	copy(b[54:], padded(kind, 8))
	copy(b[62:], []byte{0xf4, 0xeb, 0xfd}) // hlt; jmp: nothing to boot here
	le.PutUint16(b[510:], 0xaa55)
}

func padded(s string, n int) string {
	if len(s) >= n {
		return s[:n]
	}
	return s + strings.Repeat(" ", n-len(s))
}
