package writer

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ZeroRange is Target's. It tries, for each call anew, what is cheapest first:
//
//	block device: FALLOC_FL_PUNCH_HOLE (the kernel's "write zeroes, may unmap",
//	              refused unless the device guarantees zeros), BLKZEROOUT, writes
//	regular file: FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, writes
//
// Any refusal goes on to the next, an I/O error too: the writes then either
// succeed or meet the sector at fault.
func (d *Device) ZeroRange(offset, length int64) error {
	if offset < 0 || length < 0 || offset > d.size || length > d.size-offset {
		return fmt.Errorf("zero %d bytes at %d of %s: beyond its end at %d", length, offset, d.path, d.size)
	}
	if length == 0 {
		return nil
	}
	fd := int(d.buffered.Fd())
	if fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, offset, length) == nil {
		return nil
	}
	if d.block {
		if blkZeroOut(fd, offset, length) == nil {
			return nil
		}
	} else if fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, offset, length) == nil {
		return nil
	}
	return writeZeros(d, d.zero.each[0], offset, length)
}

// fallocate goes on after a signal: the Go runtime sends itself some.
func fallocate(fd int, mode uint32, offset, length int64) error {
	for {
		err := unix.Fallocate(fd, mode|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writeZeros needs buf to be all zero.
func writeZeros(t Target, buf []byte, offset, length int64) error {
	for length > 0 {
		n := min(length, int64(len(buf)))
		done, err := t.WriteAt(buf[:n], offset)
		if err == nil && int64(done) < n {
			err = io.ErrShortWrite
		}
		if err != nil {
			var known *SectorError
			if errors.As(err, &known) {
				return err
			}
			return sectorError(t, "zero", buf[:n], offset, done, err)
		}
		offset, length = offset+n, length-n
	}
	return nil
}

func blkZeroOut(fd int, offset, length int64) error {
	span := [2]uint64{uint64(offset), uint64(length)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	runtime.KeepAlive(&span)
	if errno != 0 {
		return errno
	}
	return nil
}
