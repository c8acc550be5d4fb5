package main

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// touch brings mapped bytes into memory. What it returns keeps the compiler
// from leaving out the reads, if it does not see the callers.
//
//go:noinline
func touch(b []byte) (sum byte) {
	for i := 0; i < len(b); i += 4096 {
		sum ^= b[i]
	}
	return sum
}

func (l *leg) touchContent() {
	for i := range l.m.Frames {
		if !l.m.Frames[i].Zero {
			touch(l.content(i))
		}
	}
}

// extent is a stretch of the disk.
type extent struct{ at, length int64 }

// extents are the runs of the disk that are not zero, in steps of 64 KiB and at
// most 4 MiB long.
func (l *leg) extents() []extent {
	const step, most = 64 << 10, 4 << 20
	var runs []extent
	for i := range l.m.Frames {
		if l.m.Frames[i].Zero {
			continue
		}
		content, base := l.content(i), l.m.FrameOffset(i)
		for at := 0; at < len(content); at += step {
			n := min(step, len(content)-at)
			if manifest.IsHole(content[at : at+n]) {
				continue
			}
			here := base + int64(at)
			if k := len(runs) - 1; k >= 0 && runs[k].at+runs[k].length == here && runs[k].length+int64(n) <= most {
				runs[k].length += int64(n)
				continue
			}
			runs = append(runs, extent{here, int64(n)})
		}
	}
	return runs
}

// openDirect opens past the page cache where the filesystem lets us.
func openDirect(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	return f, err
}

// write writes the extents and flushes.
func (l *leg) write(extents []extent) func(context.Context) error {
	return func(context.Context) error {
		f, err := openDirect(l.dest)
		if err != nil {
			return err
		}
		defer f.Close()
		err = parallel(func(next func() (int, bool)) error {
			for i, ok := next(); ok; i, ok = next() {
				e := extents[i]
				if _, err := f.WriteAt(l.raw[e.at:][:e.length], e.at); err != nil {
					return err
				}
			}
			return nil
		}, len(extents))
		return errors.Join(err, f.Sync())
	}
}

// read reads the whole disk back, holes too.
func (l *leg) read(context.Context) error {
	f, err := openDirect(l.dest)
	if err != nil {
		return err
	}
	defer f.Close()
	return parallel(func(next func() (int, bool)) error {
		buf, err := unix.Mmap(-1, 0, int(l.m.FrameSizeBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		defer unix.Munmap(buf)
		for i, ok := next(); ok; i, ok = next() {
			part := buf[:l.m.Frames[i].Size]
			if _, err := io.ReadFull(io.NewSectionReader(f, l.m.FrameOffset(i), int64(len(part))), part); err != nil {
				return err
			}
		}
		return nil
	}, len(l.m.Frames))
}
