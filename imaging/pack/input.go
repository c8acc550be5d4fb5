package pack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/ingot-metal/ingot/imaging/codec"
)

// content yields a disk frame by frame, from its start.
type content interface {
	// next fills buf, or a part of it at the end. zero says that all n bytes are
	// zero, for sources that know without looking. io.EOF comes alone, after
	// the last byte.
	next(buf []byte) (n int, zero bool, err error)
	// total is the number of bytes that next will give in all, 0 if not known.
	total() int64
	io.Closer
}

// openInput confirms the format and gives the content. read counts input bytes.
func openInput(ctx context.Context, in Input, o Options, read *atomic.Int64) (content, error) {
	if o.Format == QCOW2 {
		if in.ReaderAt == nil {
			return nil, fmt.Errorf("%w: a qcow2 image has to be in a file, it cannot be read as a stream", ErrUnsupported)
		}
		return openQCOW2(in.ReaderAt, in.Size, o.MaxSizeBytes)
	}
	r := in.Reader
	if r == nil && in.ReaderAt != nil {
		r = io.NewSectionReader(in.ReaderAt, 0, in.Size)
	}
	if r == nil {
		return nil, errors.New("there is no input")
	}
	body, format, err := codec.Open(&countingReader{ctx: ctx, r: r, n: read})
	if err != nil {
		return nil, settle(err)
	}
	if want := o.Format.codec(); format != want {
		body.Close()
		return nil, fmt.Errorf("%w: stated is %s, but it starts like %s", ErrFormat, o.Format, format)
	}
	br := bufio.NewReaderSize(body, 64<<10)
	first, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		body.Close()
		return nil, settle(err)
	}
	if name := foreign(first); name != "" {
		body.Close()
		return nil, fmt.Errorf("%w: stated is %s, but the disk in it starts like %s", ErrFormat, o.Format, name)
	}
	s := &stream{r: br, Closer: body}
	if format == codec.Plain {
		s.size = in.Size
	}
	return s, nil
}

// foreign names what a raw disk does not start like.
func foreign(first []byte) string {
	if f := codec.Detect(first); f != codec.Plain {
		return string(f)
	}
	for magic, name := range map[string]string{
		qcowMagic: "qcow2", "KDMV": "VMDK", "vhdxfile": "VHDX", "conectix": "VHD", "<<< ": "VDI",
	} {
		if bytes.HasPrefix(first, []byte(magic)) {
			return name
		}
	}
	return ""
}

type stream struct {
	r    io.Reader
	size int64
	io.Closer
}

func (s *stream) total() int64 { return s.size }

func (s *stream) next(buf []byte) (int, bool, error) {
	n, err := io.ReadFull(s.r, buf)
	if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) && !isCut(err) {
		return n, false, nil // the last piece; io.EOF comes next time
	}
	if err != nil && err != io.EOF {
		return n, false, settle(err)
	}
	return n, false, err
}

// isCut tells a decoder's "cut off", which is wrapped, from io.ReadFull's own.
func isCut(err error) bool { return err != io.ErrUnexpectedEOF }

func settle(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("read image: %w", err)
}

// countingReader stops at the end of ctx, as far as a Read that blocks allows.
type countingReader struct {
	ctx context.Context
	r   io.Reader
	n   *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
