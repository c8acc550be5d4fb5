package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// members reads the members of a gzip stream (RFC 1952 section 2.2) as one.
// Zeros behind the last one are padding, as for the gzip program; the library
// would call them a damaged member.
type members struct {
	br *bufio.Reader
	z  *gzip.Reader
}

func openGzip(br *bufio.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(br)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &members{br, z}, nil
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if n > 0 && err == io.EOF {
			err = nil // it comes again
		}
		if n > 0 || err != io.EOF {
			return n, err
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

// next goes to the member that follows, or gives io.EOF.
func (m *members) next() error {
	first, err := m.br.Peek(1)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err == nil && first[0] == 0 {
		return m.padding()
	}
	if err := m.z.Reset(m.br); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("after a member: %w", err)
	}
	m.z.Multistream(false)
	return nil
}

func (m *members) padding() error {
	for {
		b, err := m.br.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return fmt.Errorf("%w: something follows the padding at its end", gzip.ErrHeader)
		}
	}
}

// Close holds nothing, and what the library would say again, Read has said.
func (m *members) Close() error { return nil }
