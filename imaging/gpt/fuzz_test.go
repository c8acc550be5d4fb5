package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// FuzzRead reads disks of 3 MiB whose checksums were made right, so that
// what is behind them is reached. What is accepted lies within the disk.
func FuzzRead(f *testing.F) {
	const sectors = 6144
	m := newMemory(sectors * 512)
	table, err := New(sectors*512, 512)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := table.Add(Partition{Type: TypeESP, FirstLBA: 2048, LastLBA: 4000}); err != nil {
		f.Fatal(err)
	}
	if err := table.Write(m); err != nil {
		f.Fatal(err)
	}
	f.Add(m.data[:3*512], true)
	f.Add(m.data[:3*512], false)
	mbr := bytes.Clone(m.data[:512])
	mbr[450] = 0x83
	f.Add(mbr, false)
	f.Fuzz(func(t *testing.T, head []byte, fix bool) {
		disk := append(make(start, 0, 40*512), head[:min(len(head), 40*512)]...)[:40*512]
		if fix {
			fixChecksums(disk)
		}
		got, err := Detect(disk, sectors*512)
		if _, mbrErr := ReadMBR(disk); err != nil {
			if !errors.Is(err, ErrNoTable) && !errors.Is(err, ErrMBR) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated) {
				t.Errorf("got %v, want one of the package's errors (MBR: %v)", err, mbrErr)
			}
			return
		}
		if got.LastUsableLBA >= sectors || got.FirstUsableLBA > got.LastUsableLBA {
			t.Errorf("usable are %d to %d of %d sectors", got.FirstUsableLBA, got.LastUsableLBA, sectors)
		}
		for _, p := range got.Partitions {
			if p.FirstLBA > p.LastLBA || p.LastLBA > got.LastUsableLBA {
				t.Errorf("partition %d is %d to %d", p.Number, p.FirstLBA, p.LastLBA)
			}
		}
	})
}

// start is the start of a disk that is zero behind it.
type start []byte

func (s start) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s)) {
		copy(p, s[off:])
	}
	return len(p), nil
}

// fixChecksums makes a primary header of 92 bytes and its entries valid.
func fixChecksums(data []byte) {
	le := binary.LittleEndian
	h := data[512:]
	size := uint64(le.Uint32(h[80:])) * uint64(le.Uint32(h[84:]))
	if size <= uint64(len(data)-1024) {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(data[1024:1024+size]))
	}
	le.PutUint32(h[12:], 92)
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}
