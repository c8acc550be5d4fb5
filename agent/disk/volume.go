package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	eraseStep  = 64 << 20 // a BLKZEROOUT, after which ctx is looked at
	writeStep  = 1 << 20
	sampleSize = 1 << 20
)

// volume is an opened disk, or a regular file that stands for one.
type volume struct {
	file   *os.File
	block  bool
	size   int64
	buffer []byte // writeStep bytes, page-aligned, mapped
}

// openVolume claims the disk: EBUSY when it or a partition of it is in use.
func openVolume(path string) (_ *volume, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	v := &volume{block: info.Mode()&fs.ModeDevice != 0}
	flags := os.O_RDWR
	if v.block {
		flags |= unix.O_EXCL | unix.O_DIRECT
	}
	if v.file, err = os.OpenFile(path, flags, 0); err != nil {
		return nil, err
	}
	if v.size, err = v.file.Seek(0, 2); err == nil && v.size == 0 {
		err = fmt.Errorf("%s has no bytes", path)
	}
	if err == nil {
		v.buffer, err = unix.Mmap(-1, 0, writeStep, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	}
	if err != nil {
		v.file.Close()
		return nil, err
	}
	return v, nil
}

func (v *volume) close() {
	_ = unix.Munmap(v.buffer)
	_ = v.file.Close() // all that mattered was synced before
}

// overwrite writes zeros over everything: by the kernel's call, which lets the
// device do the work without unmapping instead, and by hand where that is
// refused.
func (v *volume) overwrite(ctx context.Context, progress func(string, int64, int64)) error {
	clear(v.buffer)
	for done := int64(0); done < v.size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(eraseStep, v.size-done)
		if err := v.zeroOut(done, n); err != nil {
			if err := v.writeZeros(ctx, done, n); err != nil {
				return err
			}
		}
		done += n
		progress("overwrite", done, v.size)
	}
	return nil
}

func (v *volume) zeroOut(offset, length int64) error {
	if !v.block {
		return unix.ENOTTY
	}
	span := [2]uint64{uint64(offset), uint64(length)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, v.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	runtime.KeepAlive(&span)
	if errno != 0 {
		return errno
	}
	return nil
}

func (v *volume) writeZeros(ctx context.Context, offset, length int64) error {
	for end := offset + length; offset < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(writeStep, end-offset)
		if _, err := v.file.WriteAt(v.buffer[:n], offset); err != nil {
			return fmt.Errorf("write zeros at byte %d: %w", offset, err)
		}
		offset += n
	}
	return nil
}

// settle flushes the disk's cache, drops the kernel's, and makes it forget the
// partitions that are gone.
func (v *volume) settle() error {
	if err := v.file.Sync(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if !v.block {
		return nil
	}
	if err := unix.IoctlSetInt(int(v.file.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("drop the kernel's buffers: %w", err)
	}
	err := unix.IoctlSetInt(int(v.file.Fd()), unix.BLKRRPART, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it cannot have partitions
		return fmt.Errorf("read the partition table again: %w", err)
	}
	return nil
}

// verify reads samples: both ends, and one at a random place of each equal
// stretch between. After an overwrite they must be zero; a device that erased
// by itself may show all ones as well.
func (v *volume) verify(ctx context.Context, method string, o EraseOptions) (int64, error) {
	total := (v.size + sampleSize - 1) / sampleSize
	percent := int64(min(max(o.VerifyPercent, 1), 100))
	count := max((total*percent+99)/100, min(total, 16))
	read := int64(0)
	for i := range count {
		if ctx.Err() != nil {
			return read, context.Cause(ctx)
		}
		from, to := i*total/count, (i+1)*total/count
		block := from + rand.Int64N(to-from)
		switch i {
		case 0:
			block = 0
		case count - 1:
			block = total - 1
		}
		offset := block * sampleSize
		n := min(sampleSize, v.size-offset)
		if _, err := v.file.ReadAt(v.buffer[:n], offset); err != nil {
			return read, fmt.Errorf("read back at byte %d: %w", offset, err)
		}
		if !blank(v.buffer[:n], method != MethodOverwrite) {
			return read, fmt.Errorf("%w: at byte %d, after %s", ErrNotErased, offset, method)
		}
		read += n
		o.Progress("verify", i+1, count)
	}
	return read, nil
}

// blank tells whether p holds one value only: zero, or if onesToo all ones.
func blank(p []byte, onesToo bool) bool {
	if p[0] != 0 && (p[0] != 0xff || !onesToo) {
		return false
	}
	return bytes.Equal(p[1:], p[:len(p)-1])
}
