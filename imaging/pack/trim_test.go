package pack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/imaging/gpt"
)

// fsDisk is a disk with a filesystem of files and rubbish in its free blocks.
// It gives the place of the filesystem.
func fsDisk(t testing.TB, change func(path string)) (disk []byte, start, size int) {
	t.Helper()
	dir := t.TempDir()
	tree, path := filepath.Join(dir, "tree"), filepath.Join(dir, "fs")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		data := make([]byte, 700_000)
		scatter(data, uint64(name[0]))
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start, size = 3<<20, 12<<20
	rubbish := make([]byte, size)
	noise(rubbish)
	if err := os.WriteFile(path, rubbish, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d", tree, path)
	change(path)
	disk = make([]byte, 16<<20)
	table, err := gpt.New(int64(len(disk)), 512)
	if err != nil {
		t.Fatal(err)
	}
	table.Partitions = []gpt.Partition{
		{Number: 15, Type: gpt.TypeESP, ID: gpt.NewGUID(), FirstLBA: 2 << 11, LastLBA: 3<<11 - 1},
		{Number: 1, Type: gpt.TypeRootAMD64, ID: gpt.NewGUID(), FirstLBA: 3 << 11, LastLBA: 15<<11 - 1},
	}
	if err := table.Write(memory(disk)); err != nil {
		t.Fatal(err)
	}
	noise(disk[2<<20 : 3<<20]) // of the ESP nothing is free
	scatter(disk[15<<20:15<<20+4096], 6)
	fs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(disk[start:], fs)
	return disk, start, size
}

// noise does not compress.
func noise(b []byte) {
	rng := rand.New(rand.NewPCG(9, uint64(len(b))))
	for at := 0; at+8 <= len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], rng.Uint64())
	}
}

func TestTrimLeavesFreeBlocksOut(t *testing.T) {
	t.Parallel()
	disk, start, size := fsDisk(t, func(string) {})
	_, plain := mustPack(t, input(disk), rawOptions)
	o := rawOptions
	o.Trim = true
	dir, want := mustPack(t, input(disk), o)
	if got, most := want.Manifest.PackedSizeBytes, plain.Manifest.PackedSizeBytes/2; got > most || want.TrimmedBytes < 5<<20 || len(want.Warnings) != 0 {
		t.Errorf("packed %d bytes, %d trimmed, warnings %q; want less than %d, more than 5 MiB, none", got, want.TrimmedBytes, want.Warnings, most)
	}
	got := exported(t, packedBytes(t, dir), want, Raw)
	if !bytes.Equal(got[:start], disk[:start]) || !bytes.Equal(got[start+size:], disk[start+size:]) {
		t.Error("something outside of the filesystem was changed")
	}
	for i := range disk {
		if got[i] != disk[i] && got[i] != 0 {
			t.Fatalf("byte %d was changed into something", i)
		}
	}
	temp := t.TempDir()
	path := filepath.Join(temp, "fs")
	if err := os.WriteFile(path, got[start:start+size], 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "/usr/sbin/e2fsck", "-fn", path)
	for _, name := range []string{"a", "b", "c"} {
		data := make([]byte, 700_000)
		scatter(data, uint64(name[0]))
		if got := run(t, nil, "/usr/sbin/debugfs", "-R", "cat /"+name, path); !bytes.Equal(got, data) {
			t.Errorf("file %s differs", name)
		}
	}
	checkContent(t, dir, want, got)
}

// A stream is trimmed as a file is, and leaves nothing else behind.
func TestTrimGivesTheSameForEveryFormat(t *testing.T) {
	t.Parallel()
	disk, _, _ := fsDisk(t, func(string) {})
	o := rawOptions
	o.Trim = true
	_, want := mustPack(t, input(disk), o)
	qcow := exportedOf(t, disk, QCOW2)
	for format, in := range map[Format]Input{
		Raw: {Reader: bytes.NewReader(disk)}, RawZstd: {Reader: bytes.NewReader(run(t, disk, "zstd", "-c"))}, QCOW2: input(qcow),
	} {
		o.Format = format
		var phases []string
		o.Progress = func(p Progress) { phases = append(phases, p.Phase) }
		dir, got := mustPack(t, in, o)
		if got.Digest != want.Digest || got.TrimmedBytes != want.TrimmedBytes {
			t.Errorf("%s: digest %s, %d bytes trimmed; want %s, %d", format, got.Digest, got.TrimmedBytes, want.Digest, want.TrimmedBytes)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 2 {
			t.Errorf("%s: the image is %v, want two files (%v)", format, left, err)
		}
		if unpacks := phases[0] == "unpack"; unpacks != (format != QCOW2) {
			t.Errorf("%s: phases %v", format, phases)
		}
	}
}

func exportedOf(t testing.TB, disk []byte, f Format) []byte {
	t.Helper()
	dir, result := mustPack(t, input(disk), rawOptions)
	return exported(t, packedBytes(t, dir), result, f)
}

// What is in doubt stays whole, with a warning.
func TestTrimLeavesAloneWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	o := rawOptions
	o.Trim = true
	dirty, _, _ := fsDisk(t, func(path string) {
		run(t, nil, "/usr/sbin/debugfs", "-w", "-R", "ssv state 0", path)
	})
	for want, disk := range map[string][]byte{
		"partition 1 was not trimmed: the filesystem is not clean": dirty,
		"nothing was trimmed: no partition has an ext4 filesystem": gptDisk(t, 8<<20, 512),
		"nothing was trimmed: ": sfdisk(t, 4<<20, "label: dos\nstart=2048, type=83\n"),
	} {
		_, plain := mustPack(t, input(disk), rawOptions)
		_, got := mustPack(t, input(disk), o)
		if got.Digest != plain.Digest || got.TrimmedBytes != 0 || !strings.HasPrefix(strings.Join(got.Warnings, "\n"), want) {
			t.Errorf("digest %s, %d bytes trimmed, warnings %q; want %s, 0, %q", got.Digest, got.TrimmedBytes, got.Warnings, plain.Digest, want)
		}
	}
}
