package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// File is a Source over something local that can be read at any offset.
type File struct {
	r    io.ReaderAt
	size int64
	name string
}

// NewFile reads from r, which holds size bytes; name is for errors. The caller
// closes r when nobody uses the File any more.
func NewFile(r io.ReaderAt, size int64, name string) *File {
	return &File{r: r, size: size, name: name}
}

// Range is Source's; all its errors are permanent.
func (f *File) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return &Error{Source: f.name, Offset: offset, Length: length, Permanent: true, Err: err}
	}
	if offset < 0 || length <= 0 || offset > f.size || length > f.size-offset {
		return nil, fail(fmt.Errorf("%w: it has %d bytes", ErrShort, f.size))
	}
	return &fileReader{r: io.NewSectionReader(f.r, offset, length), left: length, fail: fail, ctx: ctx}, nil
}

type fileReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
	fail func(error) error
}

func (f *fileReader) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.r.Read(p)
	f.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && f.left > 0:
		err = f.fail(ErrShort)
	case err != nil && !errors.Is(err, io.EOF):
		err = f.fail(err)
	}
	return n, err
}

func (f *fileReader) Close() error { return nil }
