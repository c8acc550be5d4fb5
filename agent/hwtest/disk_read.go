package hwtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

const (
	readSamples = 256
	readBytes   = 1 << 20
	// readTime is what one disk gets; a disk that is slower has been sampled
	// less, which the measurement "bytes_read" shows.
	readTime = 10 * time.Second
)

// diskRead reads samples past the page cache, evenly over the whole disk.
func diskRead(ctx context.Context, h host.Host, found func(Finding)) error {
	return eachDisk(ctx, h, func(ctx context.Context, d disk.Disk) {
		f := Finding{Subject: subject(d), Verdict: passed}
		numbers, err := sample(ctx, d)
		f.Measurements = numbers
		if err != nil {
			f.Verdict, f.Detail = failed, fmt.Sprintf("%s: %v", d.Name(), err)
		}
		found(f)
	})
}

func sample(ctx context.Context, d disk.Disk) ([]*hardware.Measurement, error) {
	fd, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	buffer, err := unix.Mmap(-1, 0, readBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("reserve memory: %w", err)
	}
	defer func() { _ = unix.Munmap(buffer) }()
	size := int64(d.Info.SizeBytes) / 4096 * 4096
	count := min(int64(readSamples), max(size/readBytes, 1))
	var times []time.Duration
	total := int64(0)
	start := time.Now()
	for i := range count {
		if ctx.Err() != nil || time.Since(start) > readTime && i > 16 {
			break
		}
		n := min(readBytes, size)
		offset := int64(0)
		if count > 1 { // the last sample ends where the disk does
			offset = (size - n) / (count - 1) * i / 4096 * 4096
		}
		began := time.Now()
		got, err := fd.ReadAt(buffer[:n], offset)
		if err != nil {
			return numbers(times, total), fmt.Errorf("read %d bytes at byte %d: %w", n, offset, err)
		}
		times = append(times, time.Since(began))
		total += int64(got)
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("nothing was read: %w", context.Cause(ctx))
	}
	return numbers(times, total), nil
}

func numbers(times []time.Duration, total int64) []*hardware.Measurement {
	if len(times) == 0 {
		return nil
	}
	slices.Sort(times)
	sum := time.Duration(0)
	for _, t := range times {
		sum += t
	}
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1))].Seconds() }
	return []*hardware.Measurement{
		measure("bytes_read", float64(total)),
		measure("read_bytes_per_second", float64(total)/max(sum.Seconds(), 1e-9)),
		measure("median_latency_seconds", at(0.5)), measure("p99_latency_seconds", at(0.99)), measure("max_latency_seconds", at(1)),
	}
}
