package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Disk is what Write writes to. Calls have whole sectors as length and offset.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Flush returns when everything written is on the medium.
	Flush() error
}

// Write puts the table on the disk that it was read from or relocated for. The
// backup is flushed before the primary is touched. Boot code in sector 0 is
// kept. The partition scan of a running kernel is the caller's.
func (t *Table) Write(d Disk) error {
	if err := t.checkGeometry(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	entries := t.encodeEntries()
	backupEntries := t.BackupLBA - t.entrySectors()
	steps := []func() error{
		func() error { return t.put(d, backupEntries, entries) },
		func() error { return t.put(d, t.BackupLBA, t.encodeHeader(entries, t.BackupLBA, 1, backupEntries)) },
		d.Flush,
		func() error { return t.putProtective(d) },
		func() error { return t.put(d, t.entriesLBA, entries) },
		func() error { return t.put(d, 1, t.encodeHeader(entries, 1, t.BackupLBA, t.entriesLBA)) },
		d.Flush,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

func (t *Table) put(d Disk, lba uint64, data []byte) error {
	if _, err := d.WriteAt(data, int64(lba)*int64(t.SectorSize)); err != nil {
		return fmt.Errorf("LBA %d: %w", lba, err)
	}
	return nil
}

func (t *Table) putProtective(d Disk) error {
	sector := make([]byte, t.SectorSize)
	if n, err := d.ReadAt(sector, 0); n < len(sector) {
		return errors.Join(errors.New("LBA 0 is short"), err)
	}
	setProtective(sector, t.DiskSectors)
	return t.put(d, 0, sector)
}

func (t *Table) encodeHeader(entries []byte, my, alternate, entriesLBA uint64) []byte {
	b := make([]byte, t.SectorSize)
	le := binary.LittleEndian
	copy(b, signature)
	le.PutUint32(b[8:], revision1)
	le.PutUint32(b[12:], headerBytes)
	le.PutUint64(b[24:], my)
	le.PutUint64(b[32:], alternate)
	le.PutUint64(b[40:], t.FirstUsableLBA)
	le.PutUint64(b[48:], t.LastUsableLBA)
	copy(b[56:], t.DiskGUID[:])
	le.PutUint64(b[72:], entriesLBA)
	le.PutUint32(b[80:], uint32(t.entryCount))
	le.PutUint32(b[84:], uint32(t.entrySize))
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries[:t.entryCount*t.entrySize]))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerBytes]))
	return b
}

func (t *Table) encodeEntries() []byte {
	b := make([]byte, t.entrySectors()*uint64(t.SectorSize))
	le := binary.LittleEndian
	for _, p := range t.Partitions {
		e := b[(p.Number-1)*t.entrySize:]
		copy(e[0:], p.Type[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.FirstLBA)
		le.PutUint64(e[40:], p.LastLBA)
		le.PutUint64(e[48:], p.Attributes)
		units := utf16.Encode([]rune(p.Name))
		for i, u := range units[:min(len(units), nameUnits)] {
			le.PutUint16(e[56+2*i:], u)
		}
	}
	return b
}
