package writer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is a Target over a block device or a regular file. Aligned calls go
// past the page cache (O_DIRECT) where the file allows that; others, and those
// that the filesystem refuses, go through it.
type Device struct {
	path       string
	direct     *os.File // nil where O_DIRECT is refused
	buffered   *os.File
	block      bool
	size       int64
	sectorSize int
	zero       *alignedBuffers
}

// OpenOptions for Open.
type OpenOptions struct {
	// SectorSize stands for the disk's when path is a regular file (default
	// 512). A block device tells its own, and this is then ignored.
	SectorSize int
}

// zeroChunk is the size of the writes that make zeros by hand.
const zeroChunk = 1 << 20

// Open opens an existing block device, exclusively (EBUSY while it or a
// partition of it is mounted or otherwise held), or an existing regular file of
// the wanted size. The caller closes it.
func Open(path string, opts OpenOptions) (*Device, error) {
	d, err := openDevice(path, opts)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	return d, nil
}

func openDevice(path string, opts OpenOptions) (_ *Device, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	d := &Device{path: path, sectorSize: 512}
	flags := os.O_RDWR
	switch mode := info.Mode(); {
	case mode.IsRegular():
		if opts.SectorSize != 0 {
			d.sectorSize = opts.SectorSize
		}
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		d.block = true
		flags |= unix.O_EXCL // without O_CREAT: claim the device
	default:
		return nil, fmt.Errorf("%s is neither a block device nor a regular file", path)
	}
	if d.buffered, err = os.OpenFile(path, flags, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	// The claim above is for the first of the two only; a second one by
	// ourselves would be refused.
	if direct, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0); err == nil {
		d.direct = direct
	}
	if err = d.measure(); err != nil {
		return nil, err
	}
	d.zero, err = newAlignedBuffers(1, zeroChunk, 0)
	return d, err
}

func (d *Device) measure() error {
	size, err := d.buffered.Seek(0, 2)
	if err != nil {
		return err
	}
	d.size = size
	if d.block {
		if d.sectorSize, err = unix.IoctlGetInt(int(d.buffered.Fd()), unix.BLKSSZGET); err != nil {
			return fmt.Errorf("%s: ask for its sector size: %w", d.path, err)
		}
	}
	if d.sectorSize != 512 && d.sectorSize != 4096 {
		return fmt.Errorf("%s has sectors of %d bytes, only 512 and 4096 are known", d.path, d.sectorSize)
	}
	return nil
}

// Close gives the device back. It does not flush.
func (d *Device) Close() error {
	var errs []error
	for _, f := range []*os.File{d.direct, d.buffered} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if d.zero != nil {
		errs = append(errs, d.zero.release())
	}
	return errors.Join(errs...)
}

// Path is what Open was given.
func (d *Device) Path() string { return d.path }

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// SectorSize is the logical sector in bytes.
func (d *Device) SectorSize() int { return d.sectorSize }

// ReadAt is io.ReaderAt's, for any range.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if d.mayGoDirect(p, off) {
		// EINVAL: the medium below wants a larger alignment than the sector.
		if n, err := d.direct.ReadAt(p, off); !errors.Is(err, unix.EINVAL) {
			return n, err
		}
	}
	return d.buffered.ReadAt(p, off)
}

// WriteAt is io.WriterAt's, for any range. It never makes a file longer.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size || int64(len(p)) > d.size-off {
		return 0, fmt.Errorf("%s: %d bytes at %d are beyond its end at %d", d.path, len(p), off, d.size)
	}
	if d.mayGoDirect(p, off) {
		if n, err := d.direct.WriteAt(p, off); !errors.Is(err, unix.EINVAL) {
			return n, err
		}
	}
	return d.buffered.WriteAt(p, off)
}

func (d *Device) mayGoDirect(p []byte, off int64) bool {
	align := uintptr(d.sectorSize)
	return d.direct != nil && len(p) > 0 && off%int64(align) == 0 && uintptr(len(p))%align == 0 &&
		uintptr(unsafe.Pointer(&p[0]))%align == 0
}

// Flush is Target's: both views are synced (for a disk that includes its own
// cache), then the kernel's buffers of the device are dropped.
func (d *Device) Flush() error {
	if err := d.buffered.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", d.path, err)
	}
	if d.direct != nil {
		if err := d.direct.Sync(); err != nil {
			return fmt.Errorf("flush %s: %w", d.path, err)
		}
	}
	if d.block {
		// Needs CAP_SYS_ADMIN; without it the sync above has still done the work.
		err := unix.IoctlSetInt(int(d.buffered.Fd()), unix.BLKFLSBUF, 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("flush %s: BLKFLSBUF: %w", d.path, err)
		}
	}
	return nil
}

// DropCache is Target's. Direct reads need no more than this for the ranges
// that once fell back to buffered ones.
func (d *Device) DropCache() error {
	if err := unix.Fadvise(int(d.buffered.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop cache of %s: %w", d.path, err)
	}
	return nil
}

// RereadPartitions asks the kernel to look at the partition table again; a
// regular file has no partitions to look at. EBUSY: one of them is in use.
// EINVAL: this device or this kernel knows no partitions (loop devices).
func (d *Device) RereadPartitions() error {
	if !d.block {
		return nil
	}
	if err := unix.IoctlSetInt(int(d.buffered.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("read partition table of %s again: %w", d.path, err)
	}
	return nil
}
