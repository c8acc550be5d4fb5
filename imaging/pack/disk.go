package pack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/qcow2"
)

// rawDisk is a raw disk in something that can be read anywhere.
type rawDisk struct {
	ra   io.ReaderAt
	file *os.File // to ask for holes; nil if ra is no file
	size int64
	read *atomic.Int64
}

func openRaw(in Input, maxSize uint64, read *atomic.Int64) (*source, error) {
	first := make([]byte, min(8, max(in.Size, 0)))
	if _, err := in.ReaderAt.ReadAt(first, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read image: %w", err)
	}
	if name := foreign(first); name != "" {
		return nil, fmt.Errorf("%w: stated is %s, but it starts like %s", ErrFormat, Raw, name)
	}
	if uint64(in.Size) > maxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, in.Size, maxSize)
	}
	d := &rawDisk{ra: in.ReaderAt, size: in.Size, read: read}
	d.file, _ = in.ReaderAt.(*os.File)
	return &source{disk: d, size: in.Size}, nil
}

func (d *rawDisk) cursor() (cursor, error) { return d, nil }
func (d *rawDisk) close()                  {}

func (d *rawDisk) readAt(buf []byte, off int64) (bool, error) {
	if d.isHole(off, int64(len(buf))) {
		return true, nil
	}
	n, err := d.ra.ReadAt(buf, off)
	d.read.Add(int64(n))
	switch {
	case n == len(buf):
		return false, nil
	case err == nil || errors.Is(err, io.EOF):
		return false, fmt.Errorf("%w: it became shorter while it was read", ErrDamaged)
	}
	return false, fmt.Errorf("read image at %d: %w", off, err)
}

// isHole asks the filesystem, which knows what was never written. Where it
// does not know it says that all is data.
func (d *rawDisk) isHole(off, length int64) bool {
	if d.file == nil {
		return false
	}
	data, err := unix.Seek(int(d.file.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		// No data behind off; or the file is shorter by now, which reading tells.
		end, err := unix.Seek(int(d.file.Fd()), 0, unix.SEEK_END)
		return err == nil && end >= off+length
	}
	return err == nil && data >= off+length
}

// qcowDisk hands each worker its own cursor, which unpacks clusters.
type qcowDisk struct {
	img  *qcow2.Image
	read *atomic.Int64
}

func openQCOW2(in Input, maxSize uint64, read *atomic.Int64) (*source, error) {
	img, err := qcow2.Open(in.ReaderAt, in.Size, maxSize)
	if err != nil {
		return nil, fmt.Errorf("open qcow2: %w", settleQCOW2(err))
	}
	return &source{disk: &qcowDisk{img, read}, size: img.Size()}, nil
}

func (d *qcowDisk) cursor() (cursor, error) { return &qcowCursor{d.img.NewCursor(), d.read}, nil }

type qcowCursor struct {
	c    *qcow2.Cursor
	read *atomic.Int64
}

func (c *qcowCursor) readAt(buf []byte, off int64) (bool, error) {
	zero, err := c.c.ReadAt(buf, off)
	if err != nil {
		return false, fmt.Errorf("read qcow2: %w", settleQCOW2(err))
	}
	if !zero {
		c.read.Add(int64(len(buf)))
	}
	return zero, nil
}

func (c *qcowCursor) close() { c.c.Close() }

// settleQCOW2 gives this package's errors to that one's.
func settleQCOW2(err error) error {
	for theirs, ours := range map[error]error{
		qcow2.ErrNotQCOW2: ErrFormat, qcow2.ErrUnsupported: ErrUnsupported,
		qcow2.ErrTooLarge: ErrTooLarge, qcow2.ErrDamaged: ErrDamaged,
	} {
		if errors.Is(err, theirs) {
			return &settled{kind: ours, err: err}
		}
	}
	return err
}
