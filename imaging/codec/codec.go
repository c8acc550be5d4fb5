// Package codec opens a compressed stream by its first bytes: gzip (RFC 1952),
// xz, zstd (RFC 8878) and lz4 frames, and passes on what is none of these.
//
// Memory is bounded whatever the stream says: windows and dictionaries above
// MaxWindow are refused. How much comes out is not bounded here; the caller
// knows how large an image may be. A stream that ends early is
// io.ErrUnexpectedEOF, never a quiet end; one that cannot be unpacked is
// ErrDamaged; what reading it gave is passed on as it is. What may stand behind
// the data (padding, more streams) is what the stock tools take.
package codec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// Format of a stream.
type Format string

const (
	Plain Format = "plain" // none of the others
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
	LZ4   Format = "lz4"
)

// MaxWindow is the most history that a stream may ask a decoder to keep: what
// `zstd --ultra -22 --long=27` makes, and twice that of `xz -9`.
const MaxWindow = 128 << 20

// ErrTooMuchMemory is a stream made with a larger window or dictionary.
var ErrTooMuchMemory = errors.New("it needs a window of more than 128 MiB to unpack: compress it with less (no --long above 27)")

// ErrDamaged is a stream that is not what its first bytes promise.
var ErrDamaged = errors.New("the stream is damaged")

// magics by first bytes. A skippable zstd frame may come before the data, and
// is zstd too; its last four bits vary.
var magics = []struct {
	prefix []byte
	format Format
}{
	{[]byte{0x1f, 0x8b, 0x08}, Gzip},
	{[]byte{0xfd, '7', 'z', 'X', 'Z', 0x00}, XZ},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, Zstd},
	{[]byte{0x04, 0x22, 0x4d, 0x18}, LZ4},
}

// Detect tells the format by the first bytes of a stream; 6 of them suffice.
func Detect(first []byte) Format {
	for _, m := range magics {
		if bytes.HasPrefix(first, m.prefix) {
			return m.format
		}
	}
	if len(first) >= 4 && first[0]&0xf0 == 0x50 && bytes.Equal(first[1:4], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd
	}
	return Plain
}

// Open looks at the first bytes of r and gives the unpacked stream. The caller
// closes it; r stays the caller's. Streams put one behind the other are read
// as one, as the tools do.
func Open(r io.Reader) (io.ReadCloser, Format, error) {
	src := &source{r: r}
	br := bufio.NewReaderSize(src, 256<<10)
	first, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", fmt.Errorf("read first bytes: %w", err)
	}
	format := Detect(first)
	body, err := open(br, format)
	if err != nil {
		return nil, format, fmt.Errorf("open %s stream: %w", format, src.settle(err))
	}
	return &stream{body: body, format: format, src: src}, format, nil
}

func open(br *bufio.Reader, format Format) (io.ReadCloser, error) {
	switch format {
	case Gzip:
		return openGzip(br)
	case XZ:
		r, err := xz.NewReader(br, MaxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	case Zstd:
		// MaxMemory bounds the history; for streams it does not bound the output.
		dec, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	case LZ4:
		return io.NopCloser(lz4.NewReader(br)), nil
	}
	return io.NopCloser(br), nil
}

// stream gives the decoders' many errors one shape.
type stream struct {
	body   io.ReadCloser
	format Format
	src    *source
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, fmt.Errorf("unpack %s stream: %w", s.format, s.src.settle(err))
}

func (s *stream) Close() error { return s.body.Close() }

// source remembers what reading gave, to tell it from what a decoder finds.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// settle maps what the libraries say to what callers ask for.
func (s *source) settle(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w (%w)", ErrTooMuchMemory, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the stream is cut off: %w", err)
	case errors.Is(err, xz.ErrBuf), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the stream is cut off (%w)", io.ErrUnexpectedEOF, err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
