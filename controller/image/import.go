package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Request says how to read it. Format and Architecture are required.
type Request struct {
	Format       pack.Format
	Architecture string
	Name         string
	SectorSize   uint32         // 0: as its partition table says, or 512
	Boot         *manifest.Boot // what the user knows about starting it; may be nil
	Trim         bool           // leave out free blocks of ext4 (see pack.Options)
	// Progress, if not nil, is called about ten times a second from one
	// goroutine.
	Progress func(pack.Progress)
}

// Import packs, checks and puts into service. Nothing is visible before that,
// and nothing stays after an error. An image that is here already is replaced
// by the new copy, which is equal, or mends a damaged one. Errors that a user
// caused wrap those of package pack, manifest.ErrInvalid, ErrNoSpace,
// ErrUploadTooLarge, or one of the ErrSource family.
//
// Progress has the phases download (of a URL) or upload (of a stream that has
// to be a file first), check (where there is a proof), pack and verify.
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
	i := &importing{s: s, temp: temp, src: src, req: req, guard: guard}
	o, err := i.open(ctx)
	if err != nil {
		return Image{}, because(ctx, err)
	}
	defer func() { err = errors.Join(err, o.close()) }()
	result, dir, err := s.fill(ctx, temp, o.in, req, guard)
	if err != nil {
		return Image{}, because(ctx, err)
	}
	if err := o.unchanged(src.Path); err != nil {
		return Image{}, err
	}
	if err := s.place(dir, result.Digest); err != nil {
		return Image{}, err
	}
	img, err := s.get(result.Digest)
	img.Warnings = append(o.warnings, result.Warnings...)
	img.Format, img.Evidence, img.TrimmedBytes = result.Format, result.Evidence, result.TrimmedBytes
	return img, err
}

func (s *Store) fill(ctx context.Context, temp string, in pack.Input, req Request, guard func()) (*pack.Result, string, error) {
	dir := filepath.Join(temp, "image")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	result, err := pack.Fill(ctx, in, dir, pack.Options{
		Format: req.Format, Architecture: req.Architecture, Name: req.Name, SectorSize: req.SectorSize,
		Boot: req.Boot, MaxSizeBytes: s.opts.MaxSizeBytes, Trim: req.Trim,
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

func (s *Store) checkSpace() error { return s.checkRoom(0) }

// checkRoom tells whether so many bytes more may be kept.
func (s *Store) checkRoom(more int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil // a write will tell
	}
	free, need := st.Bavail*uint64(st.Bsize), s.opts.MinFreeBytes+uint64(max(more, 0))
	switch {
	case free < s.opts.MinFreeBytes:
		return fmt.Errorf("%w: %d MiB are free, %d MiB must stay: delete images or enlarge it", ErrNoSpace, free>>20, s.opts.MinFreeBytes>>20)
	case free < need:
		return fmt.Errorf("%w: %d MiB are free, the source takes %d MiB and %d MiB must stay: delete images or enlarge it",
			ErrNoSpace, free>>20, more>>20, s.opts.MinFreeBytes>>20)
	}
	return nil
}
