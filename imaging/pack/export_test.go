package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// exported gives what Export writes into something that is no file.
func exported(t testing.TB, packed []byte, result *Result, f Format) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Export(t.Context(), bytes.NewReader(packed), result.Manifest, &out, f, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packedBytes(t testing.TB, dir string) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join(dir, FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestExportIsReadByStockTools(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{8<<20 + 512*100, 16 << 20} {
		disk := gptDisk(t, size, 512)
		dir, result := mustPack(t, input(disk), rawOptions)
		packed := packedBytes(t, dir)
		if got := exported(t, packed, result, Raw); !bytes.Equal(got, disk) {
			t.Error("raw differs")
		}
		if got := exported(t, packed, result, RawZstd); !bytes.Equal(got, packed) {
			t.Error("raw.zst is not the packed file")
		}
		if got := run(t, exported(t, packed, result, RawGzip), "gzip", "-dc"); !bytes.Equal(got, disk) {
			t.Error("raw.gz differs")
		}
		temp := t.TempDir()
		q, raw := filepath.Join(temp, "q"), filepath.Join(temp, "raw")
		if err := errors.Join(os.WriteFile(q, exported(t, packed, result, QCOW2), 0o600), os.WriteFile(raw, disk, 0o600)); err != nil {
			t.Fatal(err)
		}
		run(t, nil, "qemu-img", "check", "-f", "qcow2", q)
		run(t, nil, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", q, raw)
		// What was exported comes in again as the same image.
		for _, f := range ExportFormats() {
			o := rawOptions
			o.Format = f
			if _, again := mustPack(t, input(exported(t, packed, result, f)), o); again.Digest != result.Digest {
				t.Errorf("%s imported again has digest %s, want %s", f, again.Digest, result.Digest)
			}
		}
	}
}

func TestExportIntoFilesLeavesHolesOnlyWhereNothingWas(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 16<<20, 512)
	dir, result := mustPack(t, input(disk), rawOptions)
	packed := packedBytes(t, dir)
	for name, used := range map[string]bool{"empty": false, "used": true} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if used { // old data, which must not shine through
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xee}, len(disk)), 0); err != nil {
				t.Fatal(err)
			}
		}
		var last int64
		if err := Export(t.Context(), bytes.NewReader(packed), result.Manifest, f, Raw, func(n int64) { last = n }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, disk) || last != int64(len(disk)) {
			t.Errorf("%s: %d bytes, equal %t, progress %d, %v", name, len(got), bytes.Equal(got, disk), last, err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; !used && blocks > 4<<20 {
			t.Errorf("%s: the file takes %d bytes on disk, want less than 4 MiB", name, blocks)
		}
		if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != int64(len(disk)) {
			t.Errorf("%s: position %d, want %d (%v)", name, at, len(disk), err)
		}
	}
}

func TestExportEndsAtADamagedFrame(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20, 512)
	dir, result := mustPack(t, input(disk), rawOptions)
	good := packedBytes(t, dir)
	for _, f := range ExportFormats() {
		packed := bytes.Clone(good)
		frame := result.Manifest.Frames[3]
		packed[frame.Offset+uint64(frame.PackedSize)/2] ^= 1
		var out bytes.Buffer
		err := Export(t.Context(), bytes.NewReader(packed), result.Manifest, &out, f, nil)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "frame 3") {
			t.Errorf("%s: got %v, want %v about frame 3", f, err, ErrDamaged)
		}
		if f == Raw && out.Len() > 3<<20 {
			t.Errorf("%d bytes were written, want none of the damaged frame", out.Len())
		}
	}
	if err := Export(t.Context(), bytes.NewReader(good), result.Manifest, io.Discard, RawXZ, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("raw.xz: got %v, want %v", err, ErrUnsupported)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Export(ctx, bytes.NewReader(good), result.Manifest, io.Discard, Raw, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	full := readerFunc(nil)
	if err := Export(t.Context(), bytes.NewReader(good), result.Manifest, full, Raw, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: got %v, want %v", err, syscall.ENOSPC)
	}
}

func (readerFunc) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Stock tools unpack holes and go by the seek table, so Verify looks at both,
// though no machine fetches them.
func TestVerifyCoversWhatStockToolsRead(t *testing.T) {
	t.Parallel()
	dir, result := mustPack(t, input(gptDisk(t, 8<<20, 512)), rawOptions)
	good := packedBytes(t, dir)
	at, err := readPlaces(bytes.NewReader(good), result.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	hole := 1
	if !result.Manifest.Frames[hole].Zero {
		t.Fatal("frame 1 is no hole")
	}
	table := int64(at[len(at)-1])
	for name, offset := range map[string]int64{
		"hole":               int64(at[hole]) + 9,
		"seek table's magic": table,
		"its length":         table + 4,
		"an entry":           table + 8 + 4,
		"number of frames":   int64(len(good)) - seekFooter,
		"descriptor":         int64(len(good)) - 5,
		"last byte":          int64(len(good)) - 1,
	} {
		packed := bytes.Clone(good)
		packed[offset] ^= 0x10
		if err := Verify(t.Context(), bytes.NewReader(packed), result.Manifest, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, ErrDamaged)
		}
	}
}

func FuzzSeekTable(f *testing.F) {
	dir, result := mustPack(f, input(gptDisk(f, 8<<20, 512)), rawOptions)
	packed := packedBytes(f, dir)
	f.Add(packed[len(packed)-int(seekTableSize(len(result.Manifest.Frames))):])
	f.Fuzz(func(t *testing.T, table []byte) {
		at, err := parseSeekTable(table, result.Manifest)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v, want %v", err, ErrDamaged)
			}
			return
		}
		for i := range result.Manifest.Frames {
			if at[i] >= at[i+1] || at[i+1] > uint64(len(packed)) {
				t.Errorf("frame %d lies at %d to %d of %d", i, at[i], at[i+1], len(packed))
			}
		}
	})
}
