package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Content reads the disk that packed frames hold, at any offset. It decodes a
// whole frame for each read that is not in the last one, so it is for a look
// at a partition table, not for copying. Calls are allowed in parallel.
type Content struct {
	m *manifest.Manifest

	mu    sync.Mutex // guards the fields below
	frame *frameReader
	at    int // index of the frame in buf; -1 if none
	buf   []byte
}

// NewContent needs the packed file and its manifest; Close when done.
func NewContent(packed io.ReaderAt, m *manifest.Manifest) (*Content, error) {
	frame, err := newFrameReader(packed, m, nil)
	if err != nil {
		return nil, err
	}
	return &Content{m: m, frame: frame, at: -1, buf: make([]byte, m.FrameSizeBytes)}, nil
}

// Close frees the decoder.
func (c *Content) Close() error { c.frame.close(); return nil }

// ReadAt is io.ReaderAt's.
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 {
		return 0, errors.New("read image: negative offset")
	}
	n := 0
	for n < len(p) {
		if off >= int64(c.m.SizeBytes) {
			return n, io.EOF
		}
		i := int(off / int64(c.m.FrameSizeBytes))
		if i != c.at {
			c.at = -1
			content := c.buf[:c.m.Frames[i].Size]
			if _, err := c.frame.read(i, content, nil); err != nil {
				return n, err
			}
			c.at = i
		}
		done := copy(p[n:], c.buf[off-c.m.FrameOffset(i):c.m.Frames[i].Size])
		n, off = n+done, off+int64(done)
	}
	return n, nil
}

// frameReader reads single frames with all checks; for one goroutine.
type frameReader struct {
	packed io.ReaderAt
	m      *manifest.Manifest
	places places // nil: the packed bytes of holes are of no interest
	dec    *codec.FrameDecoder
	buf    []byte
	hole   []byte // packed bytes that were found to be a hole of full size
}

func newFrameReader(packed io.ReaderAt, m *manifest.Manifest, p places) (*frameReader, error) {
	dec, err := codec.NewFrameDecoder(int(m.FrameSizeBytes))
	if err != nil {
		return nil, err
	}
	return &frameReader{packed: packed, m: m, places: p, dec: dec}, nil
}

func (r *frameReader) close() { r.dec.Close() }

// read fills content, which has the frame's size, and gives the packed bytes,
// in buf if that is large enough or else in memory that the next read uses
// again. For a hole they are nil unless there are places. Errors wrap
// ErrDamaged unless reading itself went wrong.
func (r *frameReader) read(i int, content, buf []byte) ([]byte, error) {
	f := &r.m.Frames[i]
	offset, size := f.Offset, int(f.PackedSize)
	if f.Zero {
		if r.places == nil {
			clear(content)
			return nil, nil
		}
		offset, size = r.places[i], int(r.places[i+1]-r.places[i])
	}
	packed, err := r.fetch(i, offset, size, buf)
	if err != nil {
		return nil, err
	}
	if f.Zero {
		return packed, r.decodeHole(i, packed, content)
	}
	if manifest.Sum(packed) != f.PackedSHA256 {
		return nil, fmt.Errorf("frame %d: %w: its packed bytes do not match the manifest", i, ErrDamaged)
	}
	if err := r.dec.Decode(packed, content); err != nil {
		return nil, fmt.Errorf("frame %d: %w: %w", i, ErrDamaged, err)
	}
	if xxh3.Hash(content) != f.XXH3 || manifest.Sum(content) != f.SHA256 {
		return nil, fmt.Errorf("frame %d: %w: its content does not match the manifest", i, ErrDamaged)
	}
	return packed, nil
}

func (r *frameReader) fetch(i int, offset uint64, size int, buf []byte) ([]byte, error) {
	if cap(buf) < size {
		if cap(r.buf) < size {
			r.buf = make([]byte, manifest.MaxPacked(r.m.FrameSizeBytes))
		}
		buf = r.buf
	}
	buf = buf[:size]
	n, err := r.packed.ReadAt(buf, int64(offset))
	switch {
	case n == len(buf):
		return buf, nil
	case err == nil || errors.Is(err, io.EOF):
		return nil, fmt.Errorf("frame %d: %w: the file ends before it does", i, ErrDamaged)
	}
	return nil, fmt.Errorf("frame %d: %w", i, err)
}

// decodeHole takes the same bytes as before for the same hole.
func (r *frameReader) decodeHole(i int, packed, content []byte) error {
	full := len(content) == int(r.m.FrameSizeBytes)
	if full && len(r.hole) > 0 && bytes.Equal(packed, r.hole) {
		clear(content)
		return nil
	}
	if err := r.dec.Decode(packed, content); err != nil {
		return fmt.Errorf("frame %d: %w: %w", i, ErrDamaged, err)
	}
	if !manifest.IsHole(content) {
		return fmt.Errorf("frame %d: %w: the manifest calls it a hole, and it has data", i, ErrDamaged)
	}
	if full {
		r.hole = bytes.Clone(packed)
	}
	return nil
}
