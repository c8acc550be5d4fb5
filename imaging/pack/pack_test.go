package pack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

func run(t testing.TB, stdin []byte, command ...string) []byte {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, errOut.String())
	}
	return out
}

// scatter writes data that compresses somewhat.
func scatter(b []byte, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(rng.UintN(64)) + 1
	}
}

// gptDisk makes a disk with ESP, BIOS boot and a root that is last on the disk
// but number 1, as Debian's images have it, and data in some places.
func gptDisk(t testing.TB, size int64, sectorSize int) []byte {
	t.Helper()
	disk := make([]byte, size)
	if sectorSize == 512 {
		disk = sfdisk(t, size, "label: gpt\n14: start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"+
			"15: start=4096, size=2048, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"+
			"1: start=6144, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n")
	} else {
		table, err := gpt.New(size, sectorSize)
		if err != nil {
			t.Fatal(err)
		}
		mib := uint64(1 << 20 / sectorSize)
		table.Partitions = []gpt.Partition{
			{Number: 15, Type: gpt.TypeESP, ID: gpt.NewGUID(), FirstLBA: 2 * mib, LastLBA: 3*mib - 1},
			{Number: 1, Type: gpt.TypeRootAMD64, ID: gpt.NewGUID(), FirstLBA: 3 * mib, LastLBA: table.LastUsableLBA},
		}
		if err := table.Write(memory(disk)); err != nil {
			t.Fatal(err)
		}
	}
	scatter(disk[2<<20:2<<20+70_000], 1)
	scatter(disk[3<<20+5000:3<<20+900_000], 2)
	return disk
}

// sfdisk makes a disk by a script; the version here knows 512-byte sectors only.
func sfdisk(t testing.TB, size int64, script string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, []byte(script), "/usr/sbin/sfdisk", "--quiet", path)
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// memory is a gpt.Disk.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Flush() error                             { return nil }

func input(data []byte) Input {
	return Input{Reader: bytes.NewReader(data), ReaderAt: bytes.NewReader(data), Size: int64(len(data))}
}

var rawOptions = Options{Format: Raw, Architecture: "amd64", Name: "test"}

// mustPack gives the directory.
func mustPack(t testing.TB, in Input, o Options) (string, *Result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	result, err := Pack(t.Context(), in, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, result
}

// checkContent compares by stock zstd, by the seekable format's own reader, by
// Content, and the manifest with the file beside it.
func checkContent(t *testing.T, dir string, result *Result, want []byte) {
	t.Helper()
	packedPath := filepath.Join(dir, FramesFile)
	if got := run(t, nil, "zstd", "-dc", packedPath); !bytes.Equal(got, want) {
		t.Errorf("zstd -d gives %d bytes, want %d, equal %t", len(got), len(want), bytes.Equal(got, want))
	}
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.ParseVerified(data, result.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result.Manifest, m); diff != "" {
		t.Errorf("manifest on file (+) is not the one returned (-):\n%s", diff)
	}
	f, err := os.Open(packedPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || uint64(info.Size()) != m.PackedSizeBytes {
		t.Errorf("packed file has %d bytes, the manifest says %d (%v)", info.Size(), m.PackedSizeBytes, err)
	}
	content, err := NewContent(f, m)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got := make([]byte, len(want))
	if _, err := content.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Content differs (%v)", err)
	}
	checkSeekable(t, f, want)
}

func checkSeekable(t *testing.T, f *os.File, want []byte) {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	r, err := seekable.NewReader(f, dec)
	if err != nil {
		t.Fatalf("as seekable zstd: %v", err)
	}
	defer r.Close()
	at := int64(len(want)) / 2
	got := make([]byte, min(70_000, int64(len(want))-at))
	if _, err := r.ReadAt(got, at); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want[at:at+int64(len(got))]) {
		t.Errorf("seekable read at %d: %v, equal %t", at, err, bytes.Equal(got, want[at:at+int64(len(got))]))
	}
}

func TestEveryFormatGivesTheSameImage(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20+512*100, 512)
	_, want := mustPack(t, input(disk), rawOptions)
	for _, tc := range []struct {
		format  Format
		command []string
	}{
		{Raw, []string{"cat"}},
		{RawGzip, []string{"gzip", "-c"}},
		{RawXZ, []string{"xz", "-1c"}},
		{RawZstd, []string{"zstd", "-c"}},
		{RawLZ4, []string{"lz4", "-c", "-"}},
	} {
		t.Run(string(tc.format), func(t *testing.T) {
			t.Parallel()
			o := rawOptions
			o.Format = tc.format
			dir, got := mustPack(t, Input{Reader: bytes.NewReader(run(t, disk, tc.command...))}, o)
			checkContent(t, dir, got, disk)
			if got.Digest != want.Digest {
				t.Errorf("digest %s, want %s", got.Digest, want.Digest)
			}
		})
	}
}

func TestQCOW2(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20+512*100, 512)
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	_, want := mustPack(t, input(disk), rawOptions)
	for name, args := range map[string][]string{
		"plain":       {"-O", "qcow2"},
		"version 2":   {"-O", "qcow2", "-o", "compat=0.10"},
		"compressed":  {"-O", "qcow2", "-c"},
		"zstd":        {"-O", "qcow2", "-c", "-o", "compression_type=zstd"},
		"clusters 4K": {"-O", "qcow2", "-o", "cluster_size=4k"},
		"clusters 2M": {"-O", "qcow2", "-o", "cluster_size=2M"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "q")
			run(t, nil, append(append([]string{"qemu-img", "convert", "-f", "raw"}, args...), raw, path)...)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			in, err := FileInput(f)
			if err != nil {
				t.Fatal(err)
			}
			o := rawOptions
			o.Format = QCOW2
			dir, got := mustPack(t, in, o)
			checkContent(t, dir, got, disk)
			if got.Digest != want.Digest {
				t.Errorf("digest %s, want %s", got.Digest, want.Digest)
			}
			// Cut off by a third, it must be refused and not padded.
			o.Format = QCOW2
			in.Size = in.Size * 2 / 3
			in.ReaderAt = io.NewSectionReader(f, 0, in.Size)
			if _, err := Pack(t.Context(), in, filepath.Join(t.TempDir(), "x"), o); !errors.Is(err, ErrDamaged) {
				t.Errorf("cut off: got %v, want %v", err, ErrDamaged)
			}
		})
	}
}

func TestLayoutIsFound(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		disk := gptDisk(t, 16<<20, sectorSize)
		_, result := mustPack(t, input(disk), rawOptions)
		want := &manifest.Boot{PartitionTable: "gpt", RootPartition: 1, ESPPartition: 15}
		if diff := cmp.Diff(want, result.Manifest.Boot); diff != "" || int(result.Manifest.SectorSize) != sectorSize {
			t.Errorf("sectors of %d, want %d; boot -want +got:\n%s", result.Manifest.SectorSize, sectorSize, diff)
		}
		if len(result.Warnings) != 0 {
			t.Errorf("got warnings %q, want none", result.Warnings)
		}
		o := rawOptions
		o.SectorSize = uint32(512 + 4096 - sectorSize)
		if _, err := Pack(t.Context(), input(disk), filepath.Join(t.TempDir(), "x"), o); !errors.Is(err, ErrFormat) {
			t.Errorf("stated %d, made for %d: got %v, want %v", o.SectorSize, sectorSize, err, ErrFormat)
		}
	}
}

func TestStatedBootIsKept(t *testing.T) {
	t.Parallel()
	o := rawOptions
	o.Boot = &manifest.Boot{Kernel: "/boot/vmlinuz", Initrds: []string{"/boot/initrd"}, Cmdline: "root=LABEL=root \"x\""}
	dir, result := mustPack(t, input(gptDisk(t, 8<<20, 512)), o)
	want := &manifest.Boot{PartitionTable: "gpt", RootPartition: 1, ESPPartition: 15,
		Kernel: "/boot/vmlinuz", Initrds: []string{"/boot/initrd"}, Cmdline: "root=LABEL=root \"x\""}
	if diff := cmp.Diff(want, result.Manifest.Boot); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, ManifestFile)); err != nil {
		t.Error(err)
	}
}

func TestMBRAndNoTableAreWarnings(t *testing.T) {
	t.Parallel()
	disk := sfdisk(t, 4<<20, "label: dos\nstart=2048, type=83\n")
	for want, data := range map[string][]byte{"MBR": disk, "no partition table": make([]byte, 1<<20)} {
		_, result := mustPack(t, input(data), rawOptions)
		if len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], want) {
			t.Errorf("got warnings %q, want one about %q", result.Warnings, want)
		}
	}
}

func TestExistingImageStays(t *testing.T) {
	t.Parallel()
	dir, _ := mustPack(t, input(make([]byte, 1<<20)), rawOptions)
	if _, err := Pack(t.Context(), input(make([]byte, 2<<20)), dir, rawOptions); !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want %v", err, ErrExists)
	}
}

func TestVerifyFindsAFlippedBit(t *testing.T) {
	t.Parallel()
	dir, result := mustPack(t, input(gptDisk(t, 8<<20, 512)), rawOptions)
	packed, err := os.ReadFile(filepath.Join(dir, FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(t.Context(), bytes.NewReader(packed), result.Manifest, nil); err != nil {
		t.Fatal(err)
	}
	f := result.Manifest.Frames[3]
	packed[f.Offset+uint64(f.PackedSize)/2] ^= 1
	if err := Verify(t.Context(), bytes.NewReader(packed), result.Manifest, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
	if err := Verify(t.Context(), bytes.NewReader(packed[:1000]), result.Manifest, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut: got %v, want %v", err, ErrDamaged)
	}
}
