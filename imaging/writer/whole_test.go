package writer_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// makeDisk is a raw disk with a GPT and a root that is mostly holes.
func makeDisk(t testing.TB, size int64, filled float64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table, err := gpt.New(size, 512)
	if err != nil {
		t.Fatal(err)
	}
	table.Partitions = []gpt.Partition{{Number: 1, Type: gpt.TypeRootAMD64, ID: gpt.NewGUID(), FirstLBA: 4096, LastLBA: table.LastUsableLBA}}
	if err := table.Write(flushable{f}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	chunk := make([]byte, 1<<20)
	for off := int64(2 << 20); off+int64(len(chunk)) <= size-1<<20; off += int64(len(chunk)) {
		if rng.Float64() >= filled {
			continue
		}
		for i := range chunk { // about as packable as a root filesystem
			if i%64 < 20 {
				chunk[i] = byte(rng.Uint32())
			} else {
				chunk[i] = byte(i >> 8)
			}
		}
		if _, err := f.WriteAt(chunk, off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

type flushable struct{ *os.File }

func (f flushable) Flush() error { return f.Sync() }

func packFile(t testing.TB, path string) (dir string, result *pack.Result) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := pack.FileInput(f)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "image")
	result, err = pack.Pack(t.Context(), in, dir, pack.Options{Format: pack.Raw, Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	return dir, result
}

func target(t testing.TB, size int64) *writer.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xee}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := writer.Open(path, writer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// The whole way: packed, served by two controllers of which one breaks off
// every answer and one is down at first, fetched, written, the table fitted to
// a larger disk, and judged by sfdisk.
func TestWholeWay(t *testing.T) {
	t.Parallel()
	raw := makeDisk(t, 24<<20+512*9, 0.5)
	dir, result := packFile(t, raw)
	files := http.FileServer(http.Dir(dir))
	var served atomic.Int64
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		files.ServeHTTP(&cutting{ResponseWriter: w, left: 1_000_000}, r)
	}))
	defer flaky.Close()
	var asked atomic.Int64
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 4 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer down.Close()

	opts := fetch.Options{Retry: fetch.RetryOptions{FirstWait: time.Millisecond, LongestWait: 5 * time.Millisecond}}
	m, err := fetch.Manifest(t.Context(), []string{down.URL + "/" + pack.ManifestFile, flaky.URL + "/" + pack.ManifestFile}, result.Digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	src, err := fetch.Open([]string{down.URL + "/" + pack.FramesFile, flaky.URL + "/" + pack.FramesFile}, opts)
	if err != nil {
		t.Fatal(err)
	}
	const diskSize = 80 << 20
	d := target(t, diskSize)
	if err := writer.WipeSignatures(d); err != nil {
		t.Fatal(err)
	}
	report, err := writer.Write(t.Context(), d, m, src, writer.Options{})
	if err != nil || !report.Verified {
		t.Fatalf("%v, %+v", err, report)
	}
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the disk does not hold the image (%v)", err)
	}
	fitOnDisk(t, d)
	if served.Load() == 0 {
		t.Error("the flaky controller was never asked")
	}
}

func fitOnDisk(t *testing.T, d *writer.Device) {
	t.Helper()
	table, err := gpt.Read(d, d.Size(), d.SectorSize())
	if err != nil {
		t.Fatal(err)
	}
	root, placed, err := table.Fit(d.Size(), gpt.Seed{Name: "cidata", SizeBytes: 8 << 20}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Write(d); err != nil {
		t.Fatal(err)
	}
	if root.LastLBA+1 != placed.FirstLBA {
		t.Errorf("got root %+v, seed %+v", root, placed)
	}
	if out, err := exec.Command("/usr/sbin/sfdisk", "--verify", d.Path()).CombinedOutput(); err != nil {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
}

// cutting ends the connection after some bytes of body.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// Frames must survive being asked for in any order from a plain file.
func TestResumeFromAFile(t *testing.T) {
	t.Parallel()
	raw := makeDisk(t, 16<<20, 0.6)
	dir, result := packFile(t, raw)
	packed, err := os.Open(filepath.Join(dir, pack.FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	src := fetch.NewFile(packed, int64(result.Manifest.PackedSizeBytes), packed.Name())
	d := target(t, 16<<20)
	if _, err := writer.Write(t.Context(), d, result.Manifest, src, writer.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt([]byte("scratch"), 5<<20); err != nil {
		t.Fatal(err)
	}
	// The changed one, and both ends, which are written last and anew.
	report, err := writer.Write(t.Context(), d, result.Manifest, src, writer.Options{Resume: true})
	if err != nil || report.FramesWritten+report.HolesZeroed != 3 || report.BytesWritten+report.BytesZeroed > 3<<20 || !report.Verified {
		t.Errorf("got %v, %+v", err, report)
	}
}
