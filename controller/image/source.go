package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Errors of sources that come over HTTP or HTTPS.
var (
	// ErrSourceRefused: an address, a scheme or a redirect that is not followed.
	ErrSourceRefused = download.ErrRefused
	// ErrSourceAnswer: the server answers, and does not give the file.
	ErrSourceAnswer = download.ErrAnswer
	// ErrSourceUnavailable: it cannot be reached; later it may be.
	ErrSourceUnavailable = download.ErrUnavailable
	// ErrSourceTooLarge: it has more bytes than an upload may have.
	ErrSourceTooLarge = download.ErrTooLarge
	// ErrSourceChanged: it became another file while it was read.
	ErrSourceChanged = download.ErrChanged
)

// Source is what to import: a file that this process can read, a URL, or a
// stream; the first of them that is set.
type Source struct {
	Path   string
	URL    string // http or https; see package download for what is refused
	Reader io.Reader
	Size   int64 // of Reader, if known; only for progress

	// Proof of the source as it comes, packed as it may be. What is set is
	// checked before anything of the source is unpacked.
	Proof Proof
}

// opened is a source that can be packed.
type opened struct {
	in       pack.Input
	file     *os.File // nil for a stream
	before   os.FileInfo
	warnings []string
}

func (o *opened) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// unchanged compares the file with what it was at first: its size, the time of
// its last change, and for a name what the name means.
func (o *opened) unchanged(path string) error {
	if path == "" {
		return nil
	}
	now, err := os.Stat(path)
	if err != nil || !os.SameFile(o.before, now) || now.Size() != o.before.Size() || !now.ModTime().Equal(o.before.ModTime()) {
		return errors.Join(ErrSourceChanged, err)
	}
	return nil
}

// importing is one import on its way.
type importing struct {
	s    *Store
	temp string
	src  Source
	req  Request
	// guard ends the import when the disk becomes full.
	guard func()
}

// open makes the source something that can be packed, proven where a proof was
// asked for.
func (i *importing) open(ctx context.Context) (*opened, error) {
	proof, err := i.proof(ctx)
	if err != nil {
		return nil, err
	}
	f, err := i.file(ctx, proof)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return &opened{in: pack.Input{Reader: i.src.Reader, Size: i.src.Size}}, nil
	}
	o := &opened{file: f, warnings: i.warnings()}
	if o.before, err = f.Stat(); err == nil {
		o.in, err = pack.FileInput(f)
	}
	if err == nil && !proof.empty() {
		err = i.check(ctx, f, o.in.Size, proof)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// file is the source in a file; nil where a stream can be packed as it comes. A
// qcow2 image is no stream, and what is to be proven must be there first.
func (i *importing) file(ctx context.Context, proof *proof) (*os.File, error) {
	switch {
	case i.src.Path != "":
		// Without O_NONBLOCK a named pipe would hold us here for ever.
		return os.OpenFile(i.src.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	case i.src.URL != "":
		return i.spool(func(f *os.File) error { return i.download(ctx, f, proof) })
	case i.src.Reader == nil:
		return nil, errors.New("there is no path, no URL and no stream")
	case i.req.Format != pack.QCOW2 && proof.empty():
		return nil, nil
	}
	return i.spool(func(f *os.File) error { return i.upload(ctx, f) })
}

// spool is a file beside the image, which goes when the import ends.
func (i *importing) spool(fill func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(i.temp, "source"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := fill(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (i *importing) download(ctx context.Context, f *os.File, proof *proof) error {
	told := time.Time{}
	_, err := i.s.downloads.Fetch(ctx, download.Request{
		URL: i.src.URL, Hashed: !proof.empty(), Room: i.s.checkRoom,
		Progress: func(done, total int64) {
			if now := time.Now(); now.Sub(told) >= 100*time.Millisecond || done == total {
				told = now
				i.tell(pack.Progress{Phase: "download", InputBytes: done, InputTotal: total})
			}
		},
	}, f)
	return err
}

// upload keeps a stream, up to the limit for images.
func (i *importing) upload(ctx context.Context, f *os.File) error {
	const step = 16 << 20
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("keep upload: %w", err)
		}
		i.guard()
		n, err := io.CopyN(f, i.src.Reader, step)
		total += n
		if uint64(total) > i.s.opts.MaxSizeBytes {
			return fmt.Errorf("keep upload: %w: more than %d bytes", ErrUploadTooLarge, i.s.opts.MaxSizeBytes)
		}
		i.tell(pack.Progress{Phase: "upload", InputBytes: total, InputTotal: i.src.Size})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("keep upload: %w", err)
		}
	}
}

func (i *importing) tell(p pack.Progress) {
	if i.req.Progress != nil {
		i.req.Progress(p)
	}
}

func (i *importing) warnings() []string {
	u, err := url.Parse(i.src.URL)
	if err != nil || u.Scheme != "http" || i.src.Proof != (Proof{}) {
		return nil
	}
	return []string{"the source came over plain http, without a SHA-256 or a signature: whoever was on the way could have changed it"}
}
