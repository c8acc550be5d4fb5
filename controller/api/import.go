package api

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// recordLimit bounds recording the image after its bytes are stored.
	recordLimit = time.Minute
	// progressEvery is how often an import is mentioned in the log.
	progressEvery = 10 * time.Second
)

// imported is an image that was stored, and what came with it.
type imported struct {
	image.Image
	bundle image.Bundle
}

// ImageImport takes the header and then the bytes. The image can be seen once
// it is stored, verified and recorded, never before.
func (s *Server) ImageImport(stream grpc.ClientStreamingServer[operator.ImageImportRequest, operator.Image]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHeader()
	if h == nil {
		return fault.New(fault.Invalid, "the first message of an import is its header")
	}
	format, err := checkHeader(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	body := newUpload(ctx, stream, h)
	in := bufio.NewReaderSize(body, pack.RecogniseBytes)
	if format == pack.Auto {
		if format, err = recognised(in); err != nil {
			return importError(err)
		}
	}
	got, err := s.take(ctx, in, h, format)
	if err == nil {
		err = s.whole(ctx, in, got)
	}
	if err != nil {
		return importError(err)
	}
	shown, err := s.record(ctx, h, got)
	if err != nil {
		return err
	}
	return stream.SendAndClose(shown)
}

// take stores an upload.
func (s *Server) take(ctx context.Context, in io.Reader, h *operator.ImageHeader, format pack.Format) (imported, error) {
	tell := s.logProgress(s.log.With("image_name", h.GetName(), "actor", auth.Actor(ctx)))
	if format == formatBundle {
		if h.GetTrim() {
			return imported{}, fault.New(fault.Invalid, "a bundle is taken as it is, with its digest; it cannot be trimmed")
		}
		img, b, err := s.c.Images.BundleImport(ctx, in, tell)
		return imported{img, b}, err
	}
	if h.GetArchitecture() == "" {
		return imported{}, checkArchitecture("")
	}
	img, err := s.c.Images.Import(ctx, image.Source{Reader: in, Size: int64(h.GetSourceSizeBytes())}, image.Request{
		Format: format, Architecture: h.GetArchitecture(), Name: h.GetName(), Trim: h.GetTrim(), Progress: tell,
	})
	return imported{Image: img}, err
}

func (s *Server) logProgress(log *slog.Logger) func(pack.Progress) {
	told := s.c.Now()
	return func(p pack.Progress) {
		if now := s.c.Now(); now.Sub(told) >= progressEvery {
			told = now
			log.Info("image import", "phase", p.Phase, "bytes", p.ContentBytes, "packed_bytes", p.PackedBytes)
		}
	}
}

// recognised tells the format by the first bytes, which stay to be read.
func recognised(in *bufio.Reader) (pack.Format, error) {
	first, err := in.Peek(pack.RecogniseBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if image.IsBundle(first) {
		return formatBundle, nil
	}
	f, _, err := pack.Recognise(first)
	return f, err
}

func checkHeader(h *operator.ImageHeader) (pack.Format, error) {
	if !imageName.MatchString(h.GetName()) || strings.HasSuffix(h.GetName(), "\n") {
		return "", fault.New(fault.Invalid, "image name %.120q: want at most 100 letters, digits and . _ + - (a version is given by itself: --version)", h.GetName())
	}
	if _, err := manifest.ParseDigest(h.GetName()); err == nil {
		return "", fault.New(fault.Invalid, "image name %.120q looks like a digest; choose another", h.GetName())
	}
	if v := h.GetVersion(); v != "" && (!imageVersion.MatchString(v) || strings.HasSuffix(v, "\n")) {
		return "", fault.New(fault.Invalid, "version %.120q: want at most 100 letters, digits and . _ + ~ -", v)
	}
	if h.GetArchitecture() != "" {
		if err := checkArchitecture(h.GetArchitecture()); err != nil {
			return "", err
		}
	}
	if raw, err := hex.DecodeString(h.GetSourceSha256()); err != nil || len(raw) != 0 && len(raw) != 32 {
		return "", fault.New(fault.Invalid, "source SHA-256 %.80q: want 64 hexadecimal digits", h.GetSourceSha256())
	}
	if h.GetSourceSizeBytes() > 1<<62 {
		return "", fault.New(fault.Invalid, "source size of %d bytes is not believed", h.GetSourceSizeBytes())
	}
	switch h.GetFormat() {
	case "", string(pack.Auto):
		return pack.Auto, nil
	case formatBundle:
		return formatBundle, nil
	}
	format, err := pack.ParseFormat(h.GetFormat())
	if err != nil {
		return "", fault.New(fault.Invalid, "image format %.40q: want auto, %s or %s", h.GetFormat(), wordsOr(pack.Formats(), ""), formatBundle)
	}
	return format, nil
}

// whole makes sure that all of the source was read, for its hash covers also
// what stands behind the end of a compressed stream. An image whose source is
// not what was promised does not stay, unless it was there before.
func (s *Server) whole(ctx context.Context, body io.Reader, img imported) error {
	_, err := io.Copy(io.Discard, body)
	if err == nil {
		return nil
	}
	return errors.Join(err, s.forget(ctx, img))
}

// forget removes a copy that was stored and has no row.
func (s *Server) forget(ctx context.Context, img imported) error {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	if _, known := s.c.Store.ImageGet(asking, img.Digest.Hex()); fault.Is(known, fault.NotFound) {
		return s.c.Images.Delete(img.Digest)
	}
	return nil
}

// record puts a stored image into service. What the caller says comes before
// what a bundle says.
func (s *Server) record(ctx context.Context, h *operator.ImageHeader, got imported) (*operator.Image, error) {
	// The bytes are stored: a caller who goes now shall find them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	m := got.Manifest
	if err := checkBundle(h, got); err != nil {
		return nil, errors.Join(err, s.forget(ctx, got))
	}
	row := Image{
		Digest: got.Digest.Hex(), Name: h.GetName(), Version: h.GetVersion(), Architecture: m.Architecture, Kind: string(m.Kind),
		SizeBytes: m.SizeBytes, PackedSizeBytes: m.PackedSizeBytes, SectorBytes: m.SectorSize, FrameBytes: m.FrameSizeBytes,
		KexecAllowed: !h.GetKexecForbidden() && !got.bundle.KexecForbidden, Private: h.GetPrivate() || got.bundle.Private,
	}
	if row.Version == "" {
		row.Version = got.bundle.Version
	}
	if err := s.c.Store.ImageRecord(ctx, row, s.c.ControllerID, auth.Actor(ctx)); err != nil {
		return nil, errors.Join(err, s.forget(ctx, got))
	}
	if _, err := s.c.Images.Get(got.Digest); err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "the image was removed while it was recorded; import it again")
	}
	for _, text := range got.bundle.Signatures {
		sig, err := sign.ParseSignature(text)
		if err == nil {
			err = s.keepSignature(ctx, row, sig)
		}
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "the image is in service, but not with all of its signatures")
		}
	}
	row, err := s.c.Store.ImageGet(ctx, row.Digest)
	if err != nil {
		return nil, err
	}
	shown, err := s.imageShown(ctx, row)
	if err == nil {
		shown.Warnings, shown.TrimmedBytes = got.Warnings, uint64(got.TrimmedBytes)
	}
	return shown, err
}

// checkBundle judges what only the bundle's own manifest and facts say.
func checkBundle(h *operator.ImageHeader, got imported) error {
	if v := got.bundle.Version; v != "" && !imageVersion.MatchString(v) {
		return fault.New(fault.Invalid, "version %.120q in the bundle is none; give another: --version", v)
	}
	if err := checkArchitecture(got.Manifest.Architecture); err != nil {
		return err
	}
	if a := h.GetArchitecture(); a != "" && a != got.Manifest.Architecture {
		return fault.New(fault.Invalid, "the bundle is for %s, said was %s", got.Manifest.Architecture, a)
	}
	return nil
}

// importError gives the kinds that a caller can act on, with the cause: it is
// about what the caller gave, also where the source of a URL did not answer.
func importError(err error) error {
	for cause, kind := range map[error]fault.Kind{
		pack.ErrFormat: fault.Invalid, pack.ErrUnsupported: fault.Invalid, pack.ErrTooLarge: fault.Invalid, pack.ErrDamaged: fault.Invalid,
		pack.ErrUncertain: fault.Invalid, manifest.ErrInvalid: fault.Invalid, sign.ErrMalformed: fault.Invalid,
		image.ErrUploadTooLarge: fault.Invalid, image.ErrNoSpace: fault.Exhausted,
		image.ErrSourceRefused: fault.Invalid, image.ErrSourceAnswer: fault.Precondition, image.ErrSourceUnavailable: fault.Unavailable,
		image.ErrSourceTooLarge: fault.Invalid, image.ErrSourceChanged: fault.Precondition, image.ErrSourceProof: fault.Precondition,
	} {
		if errors.Is(err, cause) {
			text := err.Error()
			for _, room := range []string{"import image: ", "import bundle: ", "pack image: "} {
				text = strings.TrimPrefix(text, room)
			}
			return fault.New(kind, "the image was not taken: %s", text)
		}
	}
	return err
}
