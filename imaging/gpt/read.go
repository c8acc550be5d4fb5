package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

const (
	signature     = "EFI PART"
	revision1     = 0x00010000
	headerBytes   = 92 // without the reserved rest of the sector
	entryBytes    = 128
	maxEntries    = 1024
	maxEntryBytes = 4096
	nameUnits     = 36
)

// header is UEFI 2.10, table 5.5.
type header struct {
	myLBA, alternateLBA, firstUsable, lastUsable uint64
	diskGUID                                     GUID
	entriesLBA                                   uint64
	entryCount, entrySize, entriesCRC            uint32
}

// Read reads the table of a disk of sizeBytes with the given logical sector
// size (512 or 4096): the primary, and when that is damaged the backup in the
// last sector. Errors: ErrNoTable, ErrMBR, ErrCorrupt, ErrTruncated, or what r
// returned.
func Read(r io.ReaderAt, sizeBytes int64, sectorSize int) (*Table, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return nil, fmt.Errorf("read partition table: sector size %d, want 512 or 4096", sectorSize)
	}
	d := disk{r: r, sectorSize: sectorSize, sectors: uint64(max(sizeBytes, 0)) / uint64(sectorSize)}
	if d.sectors < 4 {
		return nil, fmt.Errorf("read partition table: disk of %d bytes: %w", sizeBytes, ErrNoTable)
	}
	t, primary := d.readTable(1)
	if primary == nil {
		return t, nil
	}
	if errors.Is(primary, ErrTruncated) {
		return nil, fmt.Errorf("read partition table: %w", primary)
	}
	t, backup := d.readTable(d.sectors - 1)
	if backup == nil {
		t.FromBackup = true
		return t, nil
	}
	return nil, fmt.Errorf("read partition table: %w", d.explain(primary, backup))
}

// Detect is Read for an image whose sector size is not known: the header lies
// in sector 1, so where it is found tells the size.
func Detect(r io.ReaderAt, sizeBytes int64) (*Table, error) {
	t, err := Read(r, sizeBytes, 512)
	if err == nil || (!errors.Is(err, ErrNoTable) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMBR)) {
		return t, err
	}
	t4k, err4k := Read(r, sizeBytes, 4096)
	if err4k == nil || errors.Is(err4k, ErrTruncated) {
		return t4k, err4k
	}
	return nil, err
}

type disk struct {
	r          io.ReaderAt
	sectorSize int
	sectors    uint64
}

// errNoSignature is a table that is not there at all, unlike a damaged one.
var errNoSignature = errors.New("no GPT header")

func (d disk) readTable(lba uint64) (*Table, error) {
	h, err := d.readHeader(lba)
	if err != nil {
		return nil, err
	}
	t := &Table{
		SectorSize: d.sectorSize, DiskSectors: d.sectors, DiskGUID: h.diskGUID,
		FirstUsableLBA: h.firstUsable, LastUsableLBA: h.lastUsable,
		BackupLBA: h.alternateLBA, entriesLBA: h.entriesLBA,
		entryCount: int(h.entryCount), entrySize: int(h.entrySize),
	}
	if lba != 1 {
		t.BackupLBA, t.entriesLBA = lba, 2
	}
	if err := t.checkGeometry(); err != nil {
		return nil, err
	}
	raw := make([]byte, int(h.entryCount)*int(h.entrySize))
	if err := d.read(raw, h.entriesLBA); err != nil {
		return nil, err
	}
	if got := crc32.ChecksumIEEE(raw); got != h.entriesCRC {
		return nil, fmt.Errorf("%w: checksum of the entries at LBA %d is %08x, want %08x", ErrCorrupt, h.entriesLBA, got, h.entriesCRC)
	}
	for i := range t.entryCount {
		if p, used := parseEntry(raw[i*t.entrySize:]); used {
			p.Number = i + 1
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, t.check()
}

func (d disk) readHeader(lba uint64) (header, error) {
	var h header
	sector := make([]byte, d.sectorSize)
	if err := d.read(sector, lba); err != nil {
		return h, err
	}
	if !bytes.HasPrefix(sector, []byte(signature)) {
		return h, fmt.Errorf("LBA %d: %w", lba, errNoSignature)
	}
	le := binary.LittleEndian
	size := le.Uint32(sector[12:])
	if size < headerBytes || int64(size) > int64(d.sectorSize) {
		return h, fmt.Errorf("%w: header of %d bytes at LBA %d", ErrCorrupt, size, lba)
	}
	want := le.Uint32(sector[16:])
	clear(sector[16:20])
	if got := crc32.ChecksumIEEE(sector[:size]); got != want {
		return h, fmt.Errorf("%w: checksum of the header at LBA %d is %08x, want %08x", ErrCorrupt, lba, got, want)
	}
	h = header{
		myLBA: le.Uint64(sector[24:]), alternateLBA: le.Uint64(sector[32:]),
		firstUsable: le.Uint64(sector[40:]), lastUsable: le.Uint64(sector[48:]),
		diskGUID: GUID(sector[56:72]), entriesLBA: le.Uint64(sector[72:]),
		entryCount: le.Uint32(sector[80:]), entrySize: le.Uint32(sector[84:]), entriesCRC: le.Uint32(sector[88:]),
	}
	if h.myLBA != lba {
		return h, fmt.Errorf("%w: header at LBA %d says that it is at %d", ErrCorrupt, lba, h.myLBA)
	}
	if h.entryCount == 0 || h.entryCount > maxEntries || h.entrySize < entryBytes || h.entrySize > maxEntryBytes || h.entrySize&(h.entrySize-1) != 0 {
		return h, fmt.Errorf("%w: %d entries of %d bytes", ErrCorrupt, h.entryCount, h.entrySize)
	}
	return h, nil
}

// checkGeometry settles that metadata and usable range lie in order and on the
// disk, so that later arithmetic cannot wrap around.
func (t *Table) checkGeometry() error {
	if t.BackupLBA >= t.DiskSectors {
		return fmt.Errorf("%w: its backup is at LBA %d, the disk ends at %d", ErrTruncated, t.BackupLBA, t.DiskSectors-1)
	}
	entries := t.entrySectors()
	if t.entriesLBA < 2 || t.entriesLBA > t.FirstUsableLBA || t.FirstUsableLBA-t.entriesLBA < entries ||
		t.FirstUsableLBA > t.LastUsableLBA || t.LastUsableLBA >= t.BackupLBA || t.BackupLBA-t.LastUsableLBA <= entries {
		return fmt.Errorf("%w: entries at LBA %d, usable %d to %d, backup at %d", ErrCorrupt,
			t.entriesLBA, t.FirstUsableLBA, t.LastUsableLBA, t.BackupLBA)
	}
	return nil
}

func (d disk) read(p []byte, lba uint64) error {
	if lba >= d.sectors || uint64(len(p)) > (d.sectors-lba)*uint64(d.sectorSize) {
		return fmt.Errorf("%w: %d bytes at LBA %d are beyond the end of the disk", ErrCorrupt, len(p), lba)
	}
	n, err := d.r.ReadAt(p, int64(lba)*int64(d.sectorSize))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("LBA %d: %w", lba, err)
}

func parseEntry(b []byte) (Partition, bool) {
	p := Partition{Type: GUID(b[0:16]), ID: GUID(b[16:32])}
	if p.Type.IsZero() {
		return p, false
	}
	le := binary.LittleEndian
	p.FirstLBA, p.LastLBA, p.Attributes = le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])
	units := make([]uint16, 0, nameUnits)
	for i := range nameUnits {
		u := le.Uint16(b[56+2*i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	p.Name = string(utf16.Decode(units))
	return p, true
}

// explain finds the right name for a disk without a readable GPT.
func (d disk) explain(primary, backup error) error {
	mbr, err := readMBR(d.r)
	switch {
	case err != nil:
		return err
	case !errors.Is(primary, errNoSignature):
		return primary
	case !errors.Is(backup, errNoSignature):
		return backup
	case mbr.protective():
		return fmt.Errorf("%w: protective MBR without a GPT header behind it", ErrCorrupt)
	case len(mbr.Partitions) > 0:
		return ErrMBR
	}
	return ErrNoTable
}
