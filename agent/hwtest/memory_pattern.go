package hwtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
)

const (
	memoryTime  = 10 * time.Second
	memoryChunk = 16 << 20
	memoryMost  = 4 << 30
)

// patterns are written to every word; 0 stands for the word's own address, which
// finds address lines that are stuck.
var patterns = []uint64{0, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x00000000ffffffff, 0xffffffffffffffff}

// memoryPattern writes patterns to a twentieth of the memory and reads them
// back. It is short: it finds what is broken, not what fails once a week.
func memoryPattern(ctx context.Context, h host.Host, found func(Finding)) error {
	available, err := h.MemAvailable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	f := Finding{Subject: "memory", Verdict: passed}
	start := time.Now()
	tested, err := testMemory(ctx, min(available/20, memoryMost))
	f.Measurements = append(f.Measurements, measure("bytes_tested", float64(tested)),
		measure("bytes_per_second", float64(tested)*2*float64(len(patterns))/max(time.Since(start).Seconds(), 1e-9)))
	switch {
	case err != nil:
		f.Verdict, f.Detail = failed, err.Error()
	case tested == 0:
		f.Verdict, f.Detail = notApplicable, "there is too little free memory"
	}
	found(f)
	return nil
}

// testMemory holds all chunks at once, so that each is another piece of memory.
func testMemory(ctx context.Context, bytes int64) (tested int64, err error) {
	var chunks [][]byte
	defer func() {
		for _, c := range chunks {
			_ = unix.Munmap(c)
		}
	}()
	for tested < bytes && ctx.Err() == nil {
		chunk, err := unix.Mmap(-1, 0, memoryChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			break // no more to be had, which is no fault
		}
		chunks = append(chunks, chunk)
		// What cannot be locked is tested all the same: there is no swap here.
		_ = unix.Mlock(chunk)
		for _, p := range patterns {
			if err := testChunk(chunk, p); err != nil {
				return tested, err
			}
		}
		tested += memoryChunk
	}
	return tested, nil
}

func testChunk(chunk []byte, pattern uint64) error {
	le := binary.LittleEndian
	for i := 0; i < len(chunk); i += 8 {
		le.PutUint64(chunk[i:], word(pattern, i))
	}
	for i := 0; i < len(chunk); i += 8 {
		if got, want := le.Uint64(chunk[i:]), word(pattern, i); got != want {
			return fmt.Errorf("memory holds %#016x where %#016x was written (bits %#x)", got, want, got^want)
		}
	}
	return nil
}

func word(pattern uint64, i int) uint64 {
	if pattern == 0 {
		return uint64(i) * 0x9e3779b97f4a7c15
	}
	return pattern
}
