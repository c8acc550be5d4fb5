package writer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// dirtyFile is a file of old data, in dir or in a directory of its own.
func dirtyFile(t testing.TB, dir string, size int64) string {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	f, err := os.CreateTemp(dir, "disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	chunk := bytes.Repeat([]byte{0xee}, 1<<20)
	for size > 0 {
		n, err := f.Write(chunk[:min(size, int64(len(chunk)))])
		if err != nil {
			t.Fatal(err)
		}
		size -= int64(n)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func openFile(t testing.TB, path string, opts OpenOptions) *Device {
	t.Helper()
	d, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// The shared memory filesystem refuses O_DIRECT on older kernels and has holes
// of its own; the other one is whatever the tests run on.
func TestWriteToFiles(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"temporary": "", "shared memory": "/dev/shm"} {
		for _, sectorSize := range []int{512, 4096} {
			img := newImage(t, mixed, 3*sectorSize, sectorSize)
			path := dirtyFile(t, dir, int64(len(img.content))+1536)
			d := openFile(t, path, OpenOptions{SectorSize: sectorSize})
			report, err := Write(t.Context(), d, img.m, newSource(img), small)
			if err != nil || !report.Verified {
				t.Fatalf("%s: %v, %+v", name, err, report)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := append(bytes.Clone(img.content), bytes.Repeat([]byte{0xee}, 1536)...)
			if !bytes.Equal(got, want) {
				t.Errorf("%s, sectors of %d: the file does not hold the image", name, sectorSize)
			}
		}
	}
}

func TestDeviceRanges(t *testing.T) {
	t.Parallel()
	path := dirtyFile(t, "", 64<<10)
	d := openFile(t, path, OpenOptions{})
	for _, tc := range []struct{ off, n int64 }{{0, 512}, {100, 3}, {4096, 8192}, {512, 60000}, {64<<10 - 1, 1}} {
		want := bytes.Repeat([]byte{7}, int(tc.n))
		if n, err := d.WriteAt(want, tc.off); n != len(want) || err != nil {
			t.Errorf("write %+v: %d, %v", tc, n, err)
		}
		got := make([]byte, tc.n)
		if _, err := d.ReadAt(got, tc.off); err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %+v: %v", tc, err)
		}
		if err := d.ZeroRange(tc.off, tc.n); err != nil {
			t.Errorf("zero %+v: %v", tc, err)
		}
		if _, err := d.ReadAt(got, tc.off); err != nil || !bytes.Equal(got, make([]byte, tc.n)) {
			t.Errorf("%+v does not read as zero (%v)", tc, err)
		}
	}
	if _, err := d.WriteAt(make([]byte, 1024), 64<<10-512); err == nil {
		t.Error("write beyond the end: got no error")
	}
	if err := d.ZeroRange(64<<10-512, 1024); err == nil {
		t.Error("zero beyond the end: got no error")
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 64<<10 {
		t.Errorf("size is %d now (%v)", info.Size(), err)
	}
	if err := errors.Join(d.Flush(), d.DropCache(), d.RereadPartitions()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Open(filepath.Join(t.TempDir(), "none"), OpenOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	for _, path := range []string{t.TempDir(), "/dev/null"} {
		if _, err := Open(path, OpenOptions{}); err == nil {
			t.Errorf("%s: got no error", path)
		}
	}
	if _, err := Open(dirtyFile(t, "", 512), OpenOptions{SectorSize: 520}); err == nil {
		t.Error("sectors of 520: got no error")
	}
}
