package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/qcow2"
)

// ExportFormats lists what Export writes.
func ExportFormats() []Format { return []Format{Raw, RawGzip, RawZstd, QCOW2} }

// Export writes the disk of an image in a format of ExportFormats:
//
//	raw      the disk. If out is an empty regular file, runs of zeros become
//	         holes of it; anywhere else they are written
//	raw.gz   the same, in one gzip stream
//	raw.zst  the packed file as it is, seek table included
//	qcow2    version 3, plain clusters of 64 KiB, holes left out
//
// Every frame is checked on the way, packed and unpacked, before any of it is
// written; a wrong one ends the export with ErrDamaged and its number, and what
// is in out by then is to be thrown away. out is neither synced nor closed.
// progress, which may be nil, is told content bytes from one goroutine.
func Export(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, out io.Writer, f Format, progress func(contentBytes int64)) error {
	if err := export(ctx, packed, m, out, f, progress); err != nil {
		return fmt.Errorf("export image as %s: %w", f, err)
	}
	return nil
}

// sink takes the frames in order.
type sink interface {
	frame(c *checked, zero bool) error
	finish() error
}

func export(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, out io.Writer, f Format, progress func(int64)) error {
	if err := m.Validate(); err != nil {
		return err
	}
	var at places
	var err error
	if f == RawZstd {
		if at, err = readPlaces(packed, m); err != nil {
			return err
		}
	}
	to, err := newSink(m, out, f)
	if err != nil {
		return err
	}
	err = inOrder(ctx, packed, m, at, func(c *checked) error {
		if err := to.frame(c, m.Frames[c.index].Zero); err != nil {
			return err
		}
		if progress != nil {
			progress(m.FrameOffset(c.index) + int64(len(c.content)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return to.finish()
}

func newSink(m *manifest.Manifest, out io.Writer, f Format) (sink, error) {
	switch f {
	case Raw:
		return newRawSink(out)
	case RawGzip:
		gz, err := gzip.NewWriterLevel(out, gzip.DefaultCompression)
		return &gzipSink{gz}, err
	case RawZstd:
		return &zstdSink{w: out}, nil
	case QCOW2:
		w, err := qcow2.NewWriter(out, int64(m.SizeBytes), int(m.FrameSizeBytes), func(i int) bool { return !m.Frames[i].Zero })
		return &qcowSink{w}, err
	}
	return nil, fmt.Errorf("%w: want one of %v", ErrUnsupported, ExportFormats())
}

type gzipSink struct{ w *gzip.Writer }

func (s *gzipSink) frame(c *checked, _ bool) error { _, err := s.w.Write(c.content); return err }
func (s *gzipSink) finish() error                  { return s.w.Close() }

// zstdSink writes the packed bytes, and makes the seek table anew from them,
// which readPlaces found to be the same.
type zstdSink struct {
	w    io.Writer
	seek seekTable
}

func (s *zstdSink) frame(c *checked, _ bool) error {
	s.seek.add(len(c.packed), len(c.content))
	_, err := s.w.Write(c.packed)
	return err
}

func (s *zstdSink) finish() error { _, err := s.w.Write(s.seek.encode()); return err }

type qcowSink struct{ w *qcow2.Writer }

func (s *qcowSink) frame(c *checked, zero bool) error {
	if zero {
		return nil
	}
	_, err := s.w.Write(c.content)
	return err
}

func (s *qcowSink) finish() error { return s.w.Close() }

// rawSink writes the disk; into a file that was empty it leaves holes.
type rawSink struct {
	w    io.Writer
	file *os.File // nil unless holes may be left
	at   int64    // in the file
}

// holeStep is the granule of holes within frames.
const holeStep = 64 << 10

func newRawSink(out io.Writer) (*rawSink, error) {
	s := &rawSink{w: out}
	f, ok := out.(*os.File)
	if !ok {
		return s, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		// Whatever a file has already could be old data where a hole would be.
		if s.at, err = f.Seek(0, io.SeekCurrent); err == nil && s.at >= info.Size() {
			s.file = f
		}
	}
	return s, nil
}

func (s *rawSink) frame(c *checked, zero bool) error {
	if s.file == nil {
		_, err := s.w.Write(c.content)
		return err
	}
	for content := c.content; len(content) > 0 && !zero; {
		step := content[:min(len(content), holeStep)]
		if !manifest.IsHole(step) {
			if _, err := s.file.WriteAt(step, s.at); err != nil {
				return err
			}
		}
		content, s.at = content[len(step):], s.at+int64(len(step))
	}
	if zero {
		s.at += int64(len(c.content))
	}
	return nil
}

// finish gives the file its length, and puts its position behind the disk, as
// if it had been written through.
func (s *rawSink) finish() error {
	if s.file == nil {
		return nil
	}
	_, err := s.file.Seek(s.at, io.SeekStart)
	return errors.Join(s.file.Truncate(s.at), err)
}
