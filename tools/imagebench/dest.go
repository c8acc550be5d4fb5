package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dest is where writers write: a file that stands for a disk, made anew before
// each write.
type dest struct {
	name string // "disk" or "ram"
	dir  string
	// alone: what else the filesystem has to write is waited for, so that no
	// writer pays for it.
	alone bool
}

func (d dest) file() string { return filepath.Join(d.dir, "target.raw") }

// blank makes a target of the size without content.
func (d dest) blank(size int64) error {
	if err := d.remove(); err != nil {
		return err
	}
	f, err := os.Create(d.file())
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), d.settle(f), f.Close())
}

// dirty makes a target with old data from its first byte to its last.
func (d dest) dirty(size int64) error {
	if err := d.remove(); err != nil {
		return err
	}
	f, err := os.Create(d.file())
	if err != nil {
		return err
	}
	defer f.Close()
	old := bytes.Repeat([]byte{0xa5}, 4<<20)
	for at := int64(0); at < size; at += int64(len(old)) {
		if _, err := f.WriteAt(old[:min(int64(len(old)), size-at)], at); err != nil {
			return fmt.Errorf("fill %s with old data: %w", d.file(), err)
		}
	}
	return d.settle(f)
}

// copyOf makes a target that holds the raw disk from, made as large as size.
func (d dest) copyOf(ctx context.Context, from string, size int64) error {
	if err := d.remove(); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=never", from, d.file()).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	f, err := os.OpenFile(d.file(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), d.settle(f), f.Close())
}

// asDisk gives the target the shape of a disk, a loop device, which needs root:
// some tools make a plain file new, which no disk can be. The device is to be
// detached before the next target is made.
func (d dest) asDisk(ctx context.Context, sectorSize int) (path string, detach func() error, err error) {
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--direct-io=on", "--sector-size", fmt.Sprint(sectorSize), d.file()).CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("make %s a loop device: %w: %s", d.file(), err, out)
	}
	path = strings.TrimSpace(string(out))
	return path, func() error {
		if out, err := exec.Command("losetup", "--detach", path).CombinedOutput(); err != nil {
			return fmt.Errorf("detach %s: %w: %s", path, err, out)
		}
		return nil
	}, nil
}

func (d dest) remove() error {
	if err := os.Remove(d.file()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// settle writes the target out and drops it from the page cache, so that no
// writer pays for what was before it.
func (d dest) settle(f *os.File) error {
	err := f.Sync()
	if err == nil && d.alone {
		err = unix.Syncfs(int(f.Fd()))
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// allocated is how many bytes of the target have been written, for a target
// that was blank.
func (d dest) allocated() (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(d.file(), &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

// compare tells whether the target is the raw disk, byte for byte; where both
// have holes nothing is read.
func (d dest) compare(raw string) (bool, error) {
	a, err := os.Open(raw)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(d.file())
	if err != nil {
		return false, err
	}
	defer b.Close()
	info, err := a.Stat()
	if err != nil {
		return false, err
	}
	// Disks may be larger than images, and qemu-img rounds up what it writes.
	if other, err := b.Stat(); err != nil || other.Size() < info.Size() {
		return false, err
	}
	return sameContent(a, b, info.Size())
}

func sameContent(a, b *os.File, size int64) (bool, error) {
	x, y := make([]byte, 4<<20), make([]byte, 4<<20)
	for at := int64(0); at < size; at += int64(len(x)) {
		n := min(int64(len(x)), size-at)
		if isHole(a, at, n) && isHole(b, at, n) {
			continue
		}
		for _, r := range []struct {
			f   *os.File
			buf []byte
		}{{a, x[:n]}, {b, y[:n]}} {
			if _, err := io.ReadFull(io.NewSectionReader(r.f, at, n), r.buf); err != nil {
				return false, err
			}
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// isHole tells whether the filesystem has nothing for the range.
func isHole(f *os.File, at, length int64) bool {
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO) || err == nil && next >= at+length
}
