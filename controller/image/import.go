package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Source is what to import: a file that this process can read, or a stream.
type Source struct {
	Path   string
	Reader io.Reader // used if Path is empty
	Size   int64     // of Reader, if known; only for progress
}

// Request says how to read it. Format and Architecture are required.
type Request struct {
	Format       pack.Format
	Architecture string
	Name         string
	SectorSize   uint32         // 0: as its partition table says, or 512
	Boot         *manifest.Boot // what the user knows about starting it; may be nil
	// Progress, if not nil, is called about ten times a second from one
	// goroutine.
	Progress func(pack.Progress)
}

// Import packs, checks and puts into service. Nothing is visible before that,
// and nothing stays after an error. An image that is here already is replaced
// by the new copy, which is equal, or mends a damaged one. Errors that a user
// caused wrap those of package pack, manifest.ErrInvalid, ErrNoSpace or
// ErrUploadTooLarge.
func (s *Store) Import(ctx context.Context, src Source, req Request) (Image, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Image{}, fmt.Errorf("import image: %w", ctx.Err())
	}
	img, err := s.importInto(ctx, src, req)
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	s.log.Info("image imported", "image", string(img.Digest), "bytes", img.Manifest.SizeBytes, "packed_bytes", img.Manifest.PackedSizeBytes)
	return img, nil
}

func (s *Store) importInto(ctx context.Context, src Source, req Request) (_ Image, err error) {
	temp, err := os.MkdirTemp(s.dir, partialPrefix)
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guard := func() {
		if err := s.checkSpace(); err != nil {
			cancel(err)
		}
	}
	in, closeInput, err := s.input(ctx, temp, src, req, guard)
	if err != nil {
		return Image{}, because(ctx, err)
	}
	defer closeInput()
	result, dir, err := s.fill(ctx, temp, in, req, guard)
	if err != nil {
		return Image{}, because(ctx, err)
	}
	if err := s.place(dir, result.Digest); err != nil {
		return Image{}, err
	}
	img, err := s.get(result.Digest)
	img.Warnings = result.Warnings
	return img, err
}

func (s *Store) fill(ctx context.Context, temp string, in pack.Input, req Request, guard func()) (*pack.Result, string, error) {
	dir := filepath.Join(temp, "image")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	result, err := pack.Fill(ctx, in, dir, pack.Options{
		Format: req.Format, Architecture: req.Architecture, Name: req.Name, SectorSize: req.SectorSize,
		Boot: req.Boot, MaxSizeBytes: s.opts.MaxSizeBytes,
		Progress: func(p pack.Progress) {
			guard()
			if req.Progress != nil {
				req.Progress(p)
			}
		},
	})
	return result, dir, err
}

// because prefers our reason for cancelling.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrNoSpace) {
		return cause
	}
	return err
}

// input opens the source. A qcow2 stream has to be a file first.
func (s *Store) input(ctx context.Context, temp string, src Source, req Request, guard func()) (pack.Input, func() error, error) {
	if src.Path != "" {
		// Without O_NONBLOCK a named pipe would hold us here for ever.
		f, err := os.OpenFile(src.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return pack.Input{}, nil, err
		}
		in, err := pack.FileInput(f)
		if err != nil {
			return in, nil, errors.Join(err, f.Close())
		}
		return in, f.Close, nil
	}
	if src.Reader == nil {
		return pack.Input{}, nil, errors.New("there is neither a path nor a stream")
	}
	if req.Format != pack.QCOW2 {
		return pack.Input{Reader: src.Reader, Size: src.Size}, func() error { return nil }, nil
	}
	f, err := s.spool(ctx, filepath.Join(temp, "upload"), src, req, guard)
	if err != nil {
		return pack.Input{}, nil, err
	}
	in, err := pack.FileInput(f)
	if err != nil {
		return in, nil, errors.Join(err, f.Close())
	}
	return in, f.Close, nil
}

// spool keeps a stream in a file, up to the limit for images.
func (s *Store) spool(ctx context.Context, path string, src Source, req Request, guard func()) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*os.File, error) {
		return nil, errors.Join(fmt.Errorf("keep upload: %w", err), f.Close())
	}
	const step = 16 << 20
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		guard()
		n, err := io.CopyN(f, src.Reader, step)
		total += n
		if uint64(total) > s.opts.MaxSizeBytes {
			return fail(fmt.Errorf("%w: more than %d bytes", ErrUploadTooLarge, s.opts.MaxSizeBytes))
		}
		if req.Progress != nil {
			req.Progress(pack.Progress{Phase: "upload", InputBytes: total, InputTotal: src.Size})
		}
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return fail(err)
		}
	}
}

// place renames dir to its final name. An older copy of that name is exchanged
// in one step, so that no reader ever finds nothing.
func (s *Store) place(dir string, d manifest.Digest) error {
	final := s.path(d)
	err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
	if errors.Is(err, fs.ErrExist) {
		err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("put image %s into service: %w", d, err)
	}
	s.forget(d)
	return pack.SyncDir(s.dir)
}

func (s *Store) checkSpace() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil // a write will tell
	}
	if free := st.Bavail * uint64(st.Bsize); free < s.opts.MinFreeBytes {
		return fmt.Errorf("%w: %d MiB are free, %d MiB must stay: delete images or enlarge it", ErrNoSpace, free>>20, s.opts.MinFreeBytes>>20)
	}
	return nil
}
