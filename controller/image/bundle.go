package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/sign"
)

// A bundle is how an image moves between sites: a tar (ustar, or PAX where frames
// are larger than 8 GiB) of these files, in this order:
//
//	manifest.json                the canonical manifest
//	image.json                   what the manifest does not say; not signed
//	manifest.json.KEYID.minisig  detached signatures of manifest.json, at most 16
//	frames.zst                   the packed disk
//
// So stock tar unpacks an image as docs/IMAGE-FORMAT.md has it, on which
// `minisign -V -m manifest.json` and `zstd -d frames.zst` work.
const (
	bundleFacts     = "image.json"
	signaturePrefix = pack.ManifestFile + "."
	signatureSuffix = ".minisig"
	maxFactsBytes   = 64 << 10
)

// Bundle is what goes with an image beside its two files.
type Bundle struct {
	Name           string   `json:"name"`
	Version        string   `json:"version,omitempty"`
	Private        bool     `json:"private,omitempty"`
	KexecForbidden bool     `json:"kexec_forbidden,omitempty"`
	Signatures     [][]byte `json:"-"`
}

// BundleExport writes an image as a bundle. The frames are not checked on the
// way: who takes them in does that.
func (s *Store) BundleExport(ctx context.Context, d manifest.Digest, b Bundle, out io.Writer) error {
	if err := s.bundleExport(ctx, d, b, out); err != nil {
		return fmt.Errorf("export image %s as a bundle: %w", d, err)
	}
	return nil
}

func (s *Store) bundleExport(ctx context.Context, d manifest.Digest, b Bundle, out io.Writer) error {
	img, frames, err := s.frames(d)
	if err != nil {
		return err
	}
	defer frames.Close()
	canonical, err := img.Manifest.Encode()
	if err != nil {
		return err
	}
	facts, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	put := func(name string, size int64, content io.Reader) error {
		// Times and owners are nobody's business: the same image, the same bytes.
		if err := w.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err := io.Copy(w, &untilDone{ctx, content})
		return err
	}
	err = errors.Join(put(pack.ManifestFile, int64(len(canonical)), bytes.NewReader(canonical)), put(bundleFacts, int64(len(facts)), bytes.NewReader(facts)))
	for _, text := range b.Signatures {
		sig, parseErr := sign.ParseSignature(text)
		if err = errors.Join(err, parseErr); err != nil {
			return err
		}
		err = put(signaturePrefix+sig.KeyID().String()+signatureSuffix, int64(len(sig.Text())), bytes.NewReader(sig.Text()))
	}
	if err != nil {
		return err
	}
	if err := put(pack.FramesFile, int64(img.Manifest.PackedSizeBytes), frames); err != nil {
		return err
	}
	return w.Close()
}

// untilDone ends a copy with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// BundleImport takes a bundle in, as Import does with a disk: all of it is
// checked, and nothing can be seen before. The manifest stays as it is, byte for
// byte, and so does the digest. Signatures are read and not verified. Errors that
// a user caused wrap those of package pack, manifest.ErrInvalid,
// sign.ErrMalformed or ErrNoSpace.
func (s *Store) BundleImport(ctx context.Context, in io.Reader, progress func(pack.Progress)) (Image, Bundle, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Image{}, Bundle{}, fmt.Errorf("import bundle: %w", ctx.Err())
	}
	img, b, err := s.bundleImport(ctx, in, progress)
	if err != nil {
		return Image{}, Bundle{}, fmt.Errorf("import bundle: %w", err)
	}
	s.log.Info("image imported", "image", string(img.Digest), "bytes", img.Manifest.SizeBytes, "packed_bytes", img.Manifest.PackedSizeBytes)
	return img, b, nil
}

func (s *Store) bundleImport(ctx context.Context, in io.Reader, progress func(pack.Progress)) (_ Image, _ Bundle, err error) {
	temp, err := os.MkdirTemp(s.dir, partialPrefix)
	if err != nil {
		return Image{}, Bundle{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	dir := filepath.Join(temp, "image")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Image{}, Bundle{}, err
	}
	u := &unbundling{store: s, dir: dir, in: tar.NewReader(&untilDone{ctx, in}), progress: progress}
	if err := u.run(ctx); err != nil {
		return Image{}, Bundle{}, err
	}
	if err := s.place(dir, u.digest); err != nil {
		return Image{}, Bundle{}, err
	}
	img, err := s.get(u.digest)
	return img, u.bundle, err
}

// unbundling is one bundle on its way in.
type unbundling struct {
	store    *Store
	dir      string
	in       *tar.Reader
	progress func(pack.Progress)

	manifest *manifest.Manifest
	digest   manifest.Digest
	bundle   Bundle
	frames   bool
}

// run reads the files, of which there may be only those that we write, each
// once, the manifest first.
func (u *unbundling) run(ctx context.Context) error {
	for {
		h, err := u.in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return u.readError(ctx, err)
		}
		if err := u.one(ctx, h); err != nil {
			return err
		}
	}
	if !u.frames {
		return fmt.Errorf("%w: it has no %s", pack.ErrDamaged, pack.FramesFile)
	}
	return pack.SyncDir(u.dir)
}

// readError tells a tar that is broken from a source that is.
func (u *unbundling) readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return because(ctx, err)
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", pack.ErrDamaged, err)
	}
	return err
}

func (u *unbundling) one(ctx context.Context, h *tar.Header) error {
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%w: %.80q in it is no regular file", pack.ErrFormat, h.Name)
	}
	switch {
	case h.Name == pack.ManifestFile && u.manifest == nil:
		return u.readManifest(ctx, h)
	case u.manifest == nil:
		return fmt.Errorf("%w: it begins with %.80q, a bundle begins with %s", pack.ErrFormat, h.Name, pack.ManifestFile)
	case h.Name == bundleFacts && u.bundle.Name == "":
		return u.readFacts(ctx, h)
	case isSignature(h.Name):
		return u.readSignature(ctx, h)
	case h.Name == pack.FramesFile && !u.frames:
		return u.readFrames(ctx, h)
	}
	return fmt.Errorf("%w: %.80q has no place in a bundle, or is there twice", pack.ErrFormat, h.Name)
}

// isSignature knows the names of signatures: one has no key id in its name.
func isSignature(name string) bool {
	if name == pack.ManifestFile+signatureSuffix {
		return true
	}
	id, ok := strings.CutPrefix(name, signaturePrefix)
	id, minisig := strings.CutSuffix(id, signatureSuffix)
	_, err := sign.ParseKeyID(id)
	return ok && minisig && err == nil
}

// small reads a file of at most so many bytes.
func (u *unbundling) small(ctx context.Context, h *tar.Header, most int64) ([]byte, error) {
	if h.Size > most {
		return nil, fmt.Errorf("%w: %.80q has %d bytes, at most %d are taken", pack.ErrFormat, h.Name, h.Size, most)
	}
	data, err := io.ReadAll(u.in)
	if err != nil {
		return nil, u.readError(ctx, err)
	}
	return data, nil
}

func (u *unbundling) readManifest(ctx context.Context, h *tar.Header) error {
	data, err := u.small(ctx, h, manifest.MaxBytes)
	if err != nil {
		return err
	}
	if u.manifest, err = manifest.Parse(data); err != nil {
		return err
	}
	if u.digest, err = u.manifest.Digest(); err != nil {
		return err
	}
	if u.manifest.SizeBytes > u.store.opts.MaxSizeBytes {
		return fmt.Errorf("%w: its content has %d bytes, at most %d are taken", pack.ErrTooLarge, u.manifest.SizeBytes, u.store.opts.MaxSizeBytes)
	}
	return keepFile(filepath.Join(u.dir, pack.ManifestFile), bytes.NewReader(data))
}

func (u *unbundling) readFacts(ctx context.Context, h *tar.Header) error {
	data, err := u.small(ctx, h, maxFactsBytes)
	if err != nil {
		return err
	}
	had := u.bundle.Signatures
	if err := json.Unmarshal(data, &u.bundle); err != nil || u.bundle.Name == "" {
		return fmt.Errorf("%w: %s in it cannot be read", pack.ErrFormat, bundleFacts)
	}
	u.bundle.Signatures = had
	return nil
}

func (u *unbundling) readSignature(ctx context.Context, h *tar.Header) error {
	if len(u.bundle.Signatures) == sign.MaxSignatures {
		return fmt.Errorf("%w: it has more than %d signatures", pack.ErrFormat, sign.MaxSignatures)
	}
	data, err := u.small(ctx, h, sign.MaxSignatureBytes)
	if err != nil {
		return err
	}
	if _, err := sign.ParseSignature(data); err != nil {
		return fmt.Errorf("%.80q: %w", h.Name, err)
	}
	u.bundle.Signatures = append(u.bundle.Signatures, data)
	return nil
}

// readFrames keeps the packed frames and checks every one of them.
func (u *unbundling) readFrames(ctx context.Context, h *tar.Header) error {
	if uint64(h.Size) != u.manifest.PackedSizeBytes {
		return fmt.Errorf("%w: its frames take %d bytes, the manifest says %d", pack.ErrDamaged, h.Size, u.manifest.PackedSizeBytes)
	}
	path := filepath.Join(u.dir, pack.FramesFile)
	if err := keepFile(path, &watched{Reader: u.in, total: h.Size, unbundling: u}); err != nil {
		return u.readError(ctx, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	u.frames = true
	return pack.Verify(ctx, f, u.manifest, func(n int64) {
		u.tell(pack.Progress{Phase: "verify", InputBytes: h.Size, InputTotal: h.Size, ContentBytes: n, ContentTotal: int64(u.manifest.SizeBytes)})
	})
}

func (u *unbundling) tell(p pack.Progress) {
	if u.progress != nil {
		u.progress(p)
	}
}

// watched looks at the free space, and tells how far it is, every 16 MiB.
type watched struct {
	io.Reader
	*unbundling
	total, done, told int64
}

func (w *watched) Read(p []byte) (int, error) {
	if w.done >= w.told {
		w.told = w.done + 16<<20
		if err := w.store.checkSpace(); err != nil {
			return 0, err
		}
		w.tell(pack.Progress{Phase: "upload", InputBytes: w.done, InputTotal: w.total})
	}
	n, err := w.Reader.Read(p)
	w.done += int64(n)
	return n, err
}

func keepFile(path string, from io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Sync()
}

// IsBundle says whether the first bytes of a file, 512 at least, are those of a
// tar that begins as a bundle does (POSIX.1-1988, ustar).
func IsBundle(first []byte) bool {
	name := pack.ManifestFile + "\x00"
	return len(first) >= 512 && string(first[:len(name)]) == name && string(first[257:262]) == "ustar"
}
