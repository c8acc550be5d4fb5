package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// Damage that has valid checksums is what an attacker would make. Whatever
// Detect accepts of it can be fitted or is refused by name, and what was
// written can be read.
func TestHostileTablesNeverPanic(t *testing.T) {
	t.Parallel()
	const size, head = 3 << 20, 40 * 512
	m := newMemory(size)
	table, err := New(size, 512)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		at := table.FirstUsableLBA + uint64(len(table.Partitions)*1000)
		if _, err := table.Add(Partition{Type: TypeRootAMD64, FirstLBA: at, LastLBA: at + 999}); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Write(m); err != nil {
		t.Fatal(err)
	}
	clear(m.data[size-512:])
	good := bytes.Clone(m.data[:head])
	disk := m.grown(size + 9<<20)
	rng := rand.New(rand.NewPCG(5, 6))
	le := binary.LittleEndian
	accepted := 0
	for range 20_000 {
		copy(disk.data, good)
		for range 1 + rng.IntN(3) {
			at := 512 + 8 + rng.IntN(84)
			if rng.IntN(2) == 0 {
				at = 1024 + rng.IntN(3*128-8)
			}
			// Small and huge numbers alike.
			le.PutUint64(disk.data[at:], rng.Uint64()>>rng.UintN(64))
		}
		count, entry := le.Uint32(disk.data[512+80:]), le.Uint32(disk.data[512+84:])
		if n := uint64(count) * uint64(entry); n <= head-1024 {
			le.PutUint32(disk.data[512+88:], crc32.ChecksumIEEE(disk.data[1024:1024+n]))
		}
		le.PutUint32(disk.data[512+12:], 92)
		clear(disk.data[512+16 : 512+20])
		le.PutUint32(disk.data[512+16:], crc32.ChecksumIEEE(disk.data[512:512+92]))
		table, err := Read(disk, size, 512)
		if err != nil {
			continue
		}
		accepted++
		if _, _, err = table.Fit(size+9<<20, seed, true); err != nil {
			continue
		}
		if err := table.Write(disk); err != nil {
			t.Fatalf("Fit accepted what Write refuses: %v", err)
		}
		if _, err := Read(disk, size+9<<20, 512); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	}
	if accepted < 100 {
		t.Errorf("only %d of the tables were accepted, the test tests little", accepted)
	}
}

// FuzzEntry looks for panics behind the checksums.
func FuzzEntry(f *testing.F) {
	f.Add(make([]byte, 128))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= entryBytes {
			parseEntry(data)
		}
	})
}
