package pack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/qcow2"
)

// source is an input whose format was confirmed: a stream, which one goroutine
// reads from its start, or a disk, which every worker reads where it is told.
type source struct {
	format   Format
	evidence string
	stream   io.Reader
	disk     disk
	size     int64 // of the content, 0 if not known
	closers  []func() error
}

// close undoes what opening did, the last first.
func (s *source) close() error {
	var err error
	for _, f := range slices.Backward(s.closers) {
		err = errors.Join(err, f())
	}
	return err
}

// disk is content that can be read at any place.
type disk interface {
	// cursor is for one goroutine, who closes it.
	cursor() (cursor, error)
}

type cursor interface {
	// readAt fills buf, which lies within the disk; or says that all of it is
	// zero, where that is known without looking, and leaves anything in buf.
	readAt(buf []byte, off int64) (zero bool, err error)
	close()
}

// openInput confirms the format. read counts input bytes.
func openInput(ctx context.Context, in Input, o Options, read *atomic.Int64) (*source, error) {
	if in.Reader == nil && in.ReaderAt == nil {
		return nil, errors.New("there is no input")
	}
	evidence := "stated"
	if o.Format == Auto {
		var err error
		if in, o.Format, evidence, err = recogniseInput(in); err != nil {
			return nil, err
		}
	}
	src, err := openFormat(ctx, in, o, read)
	if err != nil {
		return nil, err
	}
	src.format, src.evidence = o.Format, evidence
	return src, nil
}

func openFormat(ctx context.Context, in Input, o Options, read *atomic.Int64) (*source, error) {
	switch {
	case o.Format == QCOW2 && in.ReaderAt == nil:
		return nil, fmt.Errorf("%w: a qcow2 image has to be in a file, it cannot be read as a stream", ErrUnsupported)
	case o.Format == QCOW2:
		return openQCOW2(in, o.MaxSizeBytes, read)
	case o.Format == Raw && in.ReaderAt != nil:
		return openRaw(in, o.MaxSizeBytes, read)
	}
	r := in.Reader
	if r == nil {
		r = io.NewSectionReader(in.ReaderAt, 0, in.Size)
	}
	body, format, err := codec.Open(&countingReader{ctx: ctx, r: r, n: read})
	if err != nil {
		return nil, settle(err)
	}
	br := bufio.NewReaderSize(body, 64<<10)
	if err := checkStart(br, o.Format, format); err != nil {
		return nil, errors.Join(err, body.Close())
	}
	src := &source{stream: br, closers: []func() error{body.Close}}
	if format == codec.Plain {
		src.size = in.Size
	}
	return src, nil
}

// checkStart compares what was stated with what is there.
func checkStart(br *bufio.Reader, stated Format, found codec.Format) error {
	if found != stated.codec() {
		return fmt.Errorf("%w: stated is %s, but it starts like %s", ErrFormat, stated, found)
	}
	first, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return settle(err)
	}
	if name := foreign(first); name != "" {
		return fmt.Errorf("%w: stated is %s, but the disk in it starts like %s", ErrFormat, stated, name)
	}
	return nil
}

// foreign names what a raw disk does not start like.
func foreign(first []byte) string {
	if f := codec.Detect(first); f != codec.Plain {
		return string(f)
	}
	for magic, name := range map[string]string{
		qcow2.Magic: "qcow2", "KDMV": "VMDK", "vhdxfile": "VHDX", "conectix": "VHD", "<<< ": "VDI",
	} {
		if bytes.HasPrefix(first, []byte(magic)) {
			return name
		}
	}
	return ""
}

// fill reads until buf is full or the stream ends; io.EOF comes alone.
func fill(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) && !isCut(err) {
		return n, nil // the last piece; io.EOF comes next time
	}
	if err != nil && err != io.EOF {
		return n, settle(err)
	}
	return n, err
}

// isCut tells a decoder's "cut off", which is wrapped, from io.ReadFull's own.
func isCut(err error) bool { return err != io.ErrUnexpectedEOF }

// settle gives this package's errors to those of reading a stream.
func settle(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, codec.ErrDamaged):
		return &settled{kind: ErrDamaged, err: err}
	case errors.Is(err, codec.ErrTooMuchMemory):
		return &settled{kind: ErrUnsupported, err: err}
	}
	return fmt.Errorf("read image: %w", err)
}

// settled is an error that is of a kind of ours and has said so in words of its own.
type settled struct{ kind, err error }

func (e *settled) Error() string   { return e.err.Error() }
func (e *settled) Unwrap() []error { return []error{e.kind, e.err} }

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
