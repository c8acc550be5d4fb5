package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Content reads the disk that packed frames hold, at any offset. It decodes a
// whole frame for each read that is not in the last one, so it is for a look
// at a partition table, not for copying. Calls are allowed in parallel.
type Content struct {
	packed io.ReaderAt
	m      *manifest.Manifest

	mu    sync.Mutex // guards the fields below
	frame *frameReader
	at    int // index of the frame in buf; -1 if none
	buf   []byte
}

// NewContent needs the packed file and its manifest; Close when done.
func NewContent(packed io.ReaderAt, m *manifest.Manifest) (*Content, error) {
	frame, err := newFrameReader(packed, m)
	if err != nil {
		return nil, err
	}
	return &Content{packed: packed, m: m, frame: frame, at: -1, buf: make([]byte, m.FrameSizeBytes)}, nil
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
			if err := c.frame.read(i, c.buf[:c.m.Frames[i].Size]); err != nil {
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
	dec    *codec.FrameDecoder
	buf    []byte
}

func newFrameReader(packed io.ReaderAt, m *manifest.Manifest) (*frameReader, error) {
	dec, err := codec.NewFrameDecoder(int(m.FrameSizeBytes))
	if err != nil {
		return nil, err
	}
	return &frameReader{packed: packed, m: m, dec: dec, buf: make([]byte, manifest.MaxPacked(m.FrameSizeBytes))}, nil
}

func (r *frameReader) close() { r.dec.Close() }

// read fills dst, which has the frame's size. Errors wrap ErrDamaged unless
// reading itself went wrong.
func (r *frameReader) read(i int, dst []byte) error {
	f := &r.m.Frames[i]
	if f.Zero {
		clear(dst)
		return nil
	}
	buf := r.buf[:f.PackedSize]
	n, err := r.packed.ReadAt(buf, int64(f.Offset))
	switch {
	case n == len(buf):
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("frame %d: %w: the file ends before it does", i, ErrDamaged)
	default:
		return fmt.Errorf("frame %d: %w", i, err)
	}
	if manifest.Sum(buf) != f.PackedSHA256 {
		return fmt.Errorf("frame %d: %w: its packed bytes do not match the manifest", i, ErrDamaged)
	}
	if err := r.dec.Decode(buf, dst); err != nil {
		return fmt.Errorf("frame %d: %w: %w", i, ErrDamaged, err)
	}
	if xxh3.Hash(dst) != f.XXH3 || manifest.Sum(dst) != f.SHA256 {
		return fmt.Errorf("frame %d: %w: its content does not match the manifest", i, ErrDamaged)
	}
	return nil
}

// Verify checks every frame with data of a packed file against its manifest,
// in parallel. progress, which may be nil, is told content bytes from one
// goroutine at a time. A wrong frame wraps ErrDamaged.
func Verify(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, progress func(int64)) error {
	group, ctx := errgroup.WithContext(ctx)
	var next, done atomic.Int64
	var mu sync.Mutex
	for range min(runtime.GOMAXPROCS(0), 16) {
		group.Go(func() error {
			r, err := newFrameReader(packed, m)
			if err != nil {
				return err
			}
			defer r.close()
			dst := make([]byte, m.FrameSizeBytes)
			for {
				i := int(next.Add(1) - 1)
				if i >= len(m.Frames) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				size := int64(m.Frames[i].Size)
				if !m.Frames[i].Zero {
					if err := r.read(i, dst[:size]); err != nil {
						return err
					}
				}
				total := done.Add(size)
				if progress != nil {
					mu.Lock()
					progress(total)
					mu.Unlock()
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	return nil
}
