package writer_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// BenchmarkWrite compares with `zstd -dc | dd` onto the same blanked file,
// flushed by both, and reports the ratio of times (ours includes reading back
// in one of the two) beside the usual numbers; and the same image again, over a
// disk that was used a little, with the first write. "write-cpu" is our
// processor time over wall time and processors, 1 being the most there is.
func BenchmarkWrite(b *testing.B) {
	for name, filled := range map[string]float64{"sparse": 0.1, "dense": 0.9} {
		b.Run(name, func(b *testing.B) { benchmarkWrite(b, filled) })
	}
}

func benchmarkWrite(b *testing.B, filled float64) {
	const size = 1 << 30
	raw := makeDisk(b, size, filled)
	dir, result := packFile(b, raw)
	packed, err := os.Open(filepath.Join(dir, pack.FramesFile))
	if err != nil {
		b.Fatal(err)
	}
	defer packed.Close()
	disk := filepath.Join(b.TempDir(), "disk")
	var ours, verify, pipe, again, againVerify, cpu time.Duration
	source := fetch.NewFile(packed, int64(result.Manifest.PackedSizeBytes), "packed")
	put := func(opts writer.Options) writer.Report {
		d, err := writer.Open(disk, writer.OpenOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		report, err := writer.Write(b.Context(), d, result.Manifest, source, opts)
		if err != nil {
			b.Fatal(err)
		}
		return report
	}
	b.SetBytes(size)
	for b.Loop() {
		ours += timed(b, disk, size, func() {
			before := processTime(b)
			verify += put(writer.Options{}).VerifyTime
			cpu += processTime(b) - before
		})
		if err := useDisk(disk, size); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		againVerify += put(writer.Options{Reuse: true}).VerifyTime
		again += time.Since(start)
		pipe += timed(b, disk, size, func() {
			script := `set -o pipefail; zstd -dcq "$1" | dd of="$2" bs=4M iflag=fullblock oflag=direct conv=sparse,notrunc,fsync status=none`
			if out, err := exec.Command("bash", "-c", script, "bash", packed.Name(), disk).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		})
	}
	b.ReportMetric(float64(ours-verify)/float64(pipe), "write/pipe")
	b.ReportMetric(float64(ours)/float64(pipe), "write+verify/pipe")
	b.ReportMetric(float64(verify.Milliseconds())/float64(b.N), "verify-ms/op")
	b.ReportMetric(float64(again-againVerify)/float64(ours-verify), "again/write")
	b.ReportMetric(float64(again)/float64(ours), "again+verify/write+verify")
	b.ReportMetric(float64(cpu)/float64(ours)/float64(runtime.GOMAXPROCS(0)), "write-cpu")
}

// useDisk writes a little here and there, as a system does.
func useDisk(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for at := size / 40; at+1000 < size; at += size / 20 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{7}, 1000), at); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func processTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// timed runs do on a blank file.
func timed(b *testing.B, path string, size int64, do func()) time.Duration {
	b.Helper()
	os.Remove(path)
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	start := time.Now()
	do()
	return time.Since(start)
}
