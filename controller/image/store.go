package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Errors by which callers decide.
var (
	// ErrNotFound: this controller has no copy of the image.
	ErrNotFound = errors.New("no such image on this controller")
	// ErrNoSpace: an import would leave less than Options.MinFreeBytes.
	ErrNoSpace = errors.New("not enough free space in the image directory")
	// ErrUploadTooLarge: a stream that had to be kept was longer than allowed.
	ErrUploadTooLarge = errors.New("the upload is larger than allowed")
)

const partialPrefix = ".partial-"

// Options for Open; the zero value is usable.
type Options struct {
	Logger *slog.Logger // nil: none
	// MaxSizeBytes bounds the content of an image and the length of an upload
	// (default 1 TiB).
	MaxSizeBytes uint64
	// MinFreeBytes stay free in the filesystem whatever is imported (default 1
	// GiB): the database may live there too.
	MinFreeBytes uint64
	// Imports run side by side, others wait (default 2).
	Imports int
	// Download says from where URLs may be imported, and with what limits.
	// MaxBytes is MaxSizeBytes, whatever stands in it.
	Download download.Options
}

// Store is a directory of images. Its methods may be called in parallel.
type Store struct {
	dir       string
	opts      Options
	log       *slog.Logger
	slots     chan struct{} // one token for each import that may run
	downloads *download.Client
	lock      *os.File // held while open by whoever may clean up

	mu        sync.Mutex // guards the fields below
	manifests map[manifest.Digest]*manifest.Manifest
	touched   map[manifest.Digest]time.Time
}

// Image is one complete copy.
type Image struct {
	Digest     manifest.Digest
	Manifest   *manifest.Manifest
	ImportedAt time.Time
	// Of the import that made this value; Get has none of these.
	Warnings []string
	Format   pack.Format // of the source, stated or recognised
	Evidence string      // for Format, in words
	// TrimmedBytes were left out because they lay in free blocks.
	TrimmedBytes int64
}

// Open makes dir if needed and removes what interrupted imports left, unless
// another process has the store open. The caller closes it.
func Open(dir string, opts Options) (*Store, error) {
	if opts.MaxSizeBytes == 0 {
		opts.MaxSizeBytes = 1 << 40
	}
	if opts.MinFreeBytes == 0 {
		opts.MinFreeBytes = 1 << 30
	}
	if opts.Imports <= 0 {
		opts.Imports = 2
	}
	opts.Download.MaxBytes = int64(min(opts.MaxSizeBytes, 1<<62))
	s := &Store{
		downloads: download.New(opts.Download),
		dir:       dir, opts: opts, log: opts.Logger, slots: make(chan struct{}, opts.Imports),
		manifests: make(map[manifest.Digest]*manifest.Manifest), touched: make(map[manifest.Digest]time.Time),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s.lock = lock
	// All changes are atomic renames, so two processes do no harm; but only one
	// that is alone may take a partial directory for a leftover.
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		if err := s.clean(); err != nil {
			return nil, errors.Join(fmt.Errorf("open image store: %w", err), lock.Close())
		}
	}
	return s, nil
}

// Close ends the claim on the directory. Imports must have ended.
func (s *Store) Close() error { return s.lock.Close() }

func (s *Store) clean() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), partialPrefix) {
			continue
		}
		s.log.Info("image leftover removed", "path", e.Name())
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) path(d manifest.Digest) string { return filepath.Join(s.dir, d.Hex()) }

// Get gives a copy's manifest, or ErrNotFound. Manifests are kept in memory
// once read; do not change them.
func (s *Store) Get(d manifest.Digest) (Image, error) {
	img, err := s.get(d)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", d, err)
	}
	return img, nil
}

func (s *Store) get(d manifest.Digest) (Image, error) {
	if _, err := manifest.ParseDigest(string(d)); err != nil {
		return Image{}, err
	}
	info, err := os.Stat(filepath.Join(s.path(d), pack.ManifestFile))
	if err != nil {
		s.forget(d)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNotFound
		}
		return Image{}, err
	}
	s.mu.Lock()
	m := s.manifests[d]
	s.mu.Unlock()
	if m == nil {
		if m, err = s.readManifest(d); err != nil {
			return Image{}, err
		}
		s.mu.Lock()
		s.manifests[d] = m
		s.mu.Unlock()
	}
	return Image{Digest: d, Manifest: m, ImportedAt: info.ModTime()}, nil
}

func (s *Store) forget(d manifest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.manifests, d)
	delete(s.touched, d)
}

func (s *Store) readManifest(d manifest.Digest) (*manifest.Manifest, error) {
	f, err := os.Open(filepath.Join(s.path(d), pack.ManifestFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifest.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	return manifest.ParseVerified(data, d)
}

// ManifestBytes gives the canonical bytes, for sending them along with an order.
func (s *Store) ManifestBytes(d manifest.Digest) ([]byte, error) {
	img, err := s.Get(d)
	if err != nil {
		return nil, err
	}
	return img.Manifest.Encode()
}

// List gives all complete copies in the order of their digests. One whose
// manifest cannot be read is logged and left out.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var images []Image
	for _, e := range entries {
		d, err := manifest.ParseDigest(e.Name())
		if err != nil || d.Hex() != e.Name() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		img, err := s.get(d)
		switch {
		case err == nil:
			images = append(images, img)
		case !errors.Is(err, ErrNotFound): // deleted a moment ago
			s.log.Error("image unreadable", "image", string(d), "err", err)
		}
	}
	return images, nil
}

// Verify reads every frame with data and compares it with the manifest; progress, if
// not nil, is told content bytes. A damaged one wraps pack.ErrDamaged or
// manifest.ErrInvalid: import it again.
func (s *Store) Verify(ctx context.Context, d manifest.Digest, progress func(contentBytes int64)) error {
	img, err := s.Get(d)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(s.path(d), pack.FramesFile))
	if err != nil {
		return fmt.Errorf("verify image %s: %w", d, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("verify image %s: %w", d, err)
	}
	if uint64(info.Size()) != img.Manifest.PackedSizeBytes {
		return fmt.Errorf("verify image %s: %w: its frames take %d bytes, want %d", d, pack.ErrDamaged, info.Size(), img.Manifest.PackedSizeBytes)
	}
	if err := pack.Verify(ctx, f, img.Manifest, progress); err != nil {
		return fmt.Errorf("image %s: %w", d, err)
	}
	return nil
}

// Delete removes a copy, or gives ErrNotFound. Who is being served from it
// keeps what is open, and gets 404 for the next range.
func (s *Store) Delete(d manifest.Digest) error {
	if err := s.remove(d); err != nil {
		return fmt.Errorf("delete image %s: %w", d, err)
	}
	return nil
}

func (s *Store) remove(d manifest.Digest) error {
	if _, err := manifest.ParseDigest(string(d)); err != nil {
		return err
	}
	trash, err := os.MkdirTemp(s.dir, partialPrefix)
	if err != nil {
		return err
	}
	// One rename takes it out of sight as a whole.
	err = os.Rename(s.path(d), filepath.Join(trash, "image"))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	s.forget(d)
	return errors.Join(err, os.RemoveAll(trash), pack.SyncDir(s.dir))
}
