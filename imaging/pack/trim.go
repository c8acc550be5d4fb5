package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/ingot-metal/ingot/imaging/ext4"
	"github.com/ingot-metal/ingot/imaging/gpt"
)

// trimDisk is a disk whose free blocks read as zero.
type trimDisk struct {
	inner   disk
	parts   []trimPart
	trimmed *atomic.Int64
}

// trimPart is a partition whose filesystem can be trimmed.
type trimPart struct {
	number      int
	start, size int64 // bytes of the disk
	fs          *ext4.FS
}

// prepare trims where that is asked for. trimmed goes on counting as the source
// is read.
func (s *source) prepare(ctx context.Context, dir string, o Options, progress func(content, packed int64)) (warnings []string, trimmed *atomic.Int64, err error) {
	if !o.Trim {
		return nil, new(atomic.Int64), nil
	}
	if s.disk == nil {
		if err := s.settleStream(ctx, dir, o, progress); err != nil {
			return nil, nil, err
		}
	}
	return s.trim()
}

// trim finds what can be left out of the source. What cannot be trimmed and
// could have been is a warning each: the image then is larger, and right.
func (s *source) trim() (warnings []string, trimmed *atomic.Int64, err error) {
	reader, err := newDiskReader(s.disk, s.size)
	if err != nil {
		return nil, nil, err
	}
	// The filesystems go on reading their bitmaps through it.
	s.closers = append(s.closers, reader.close)
	table, err := gpt.Detect(reader, s.size)
	if err != nil {
		return []string{fmt.Sprintf("nothing was trimmed: %v", err)}, new(atomic.Int64), nil
	}
	d := &trimDisk{inner: s.disk, trimmed: new(atomic.Int64)}
	for _, p := range table.Partitions {
		part := trimPart{number: p.Number, start: int64(p.FirstLBA) * int64(table.SectorSize), size: int64(p.Sectors()) * int64(table.SectorSize)}
		part.fs, err = ext4.Open(io.NewSectionReader(reader, part.start, part.size), part.size)
		switch {
		case err == nil:
			d.parts = append(d.parts, part)
		case !errors.Is(err, ext4.ErrNotExt4):
			warnings = append(warnings, fmt.Sprintf("partition %d was not trimmed: %v", p.Number, err))
		}
	}
	if len(d.parts) == 0 && len(warnings) == 0 {
		warnings = append(warnings, "nothing was trimmed: no partition has an ext4 filesystem")
	}
	s.disk = d
	return warnings, d.trimmed, nil
}

func (d *trimDisk) cursor() (cursor, error) {
	inner, err := d.inner.cursor()
	if err != nil {
		return nil, err
	}
	c := &trimCursor{cursor: inner, d: d}
	for _, p := range d.parts {
		c.free = append(c.free, p.fs.NewCursor())
	}
	return c, nil
}

type trimCursor struct {
	cursor
	d    *trimDisk
	free []*ext4.Cursor // of each part
}

func (c *trimCursor) readAt(buf []byte, off int64) (bool, error) {
	zero, err := c.cursor.readAt(buf, off)
	if zero || err != nil {
		return zero, err
	}
	end := off + int64(len(buf))
	for i, p := range c.d.parts {
		from, to := max(off, p.start), min(end, p.start+p.size)
		if from >= to {
			continue
		}
		n, err := c.free[i].Zero(buf[from-off:to-off], from-p.start)
		if err != nil {
			return false, fmt.Errorf("trim partition %d: %w", p.number, err)
		}
		c.d.trimmed.Add(n)
	}
	return false, nil
}

// diskReader is a disk as an io.ReaderAt, for looks at its tables.
type diskReader struct {
	mu   sync.Mutex // guards cur
	cur  cursor
	size int64
}

func newDiskReader(d disk, size int64) (*diskReader, error) {
	cur, err := d.cursor()
	if err != nil {
		return nil, err
	}
	return &diskReader{cur: cur, size: size}, nil
}

func (r *diskReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), r.size-off))
	zero, err := r.cur.readAt(p[:n], off)
	if err != nil {
		return 0, err
	}
	if zero {
		clear(p[:n])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *diskReader) close() error { r.cur.close(); return nil }
