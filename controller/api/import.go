package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// maxChunk bounds one piece of an image, in bytes.
	maxChunk = 1 << 20
	// importIdle is how long an import waits for its next piece.
	importIdle = 2 * time.Minute
	// recordLimit bounds recording the image after its bytes are stored.
	recordLimit = time.Minute
	// progressEvery is how often an import is mentioned in the log.
	progressEvery = 10 * time.Second
)

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
	log := s.log.With("image_name", h.GetName(), "actor", auth.Actor(ctx))
	told := s.c.Now()
	img, err := s.c.Images.Import(ctx, image.Source{Reader: body, Size: int64(h.GetSourceSizeBytes())}, image.Request{
		Format: format, Architecture: h.GetArchitecture(), Name: h.GetName(),
		Progress: func(p pack.Progress) {
			if now := s.c.Now(); now.Sub(told) >= progressEvery {
				told = now
				log.Info("image import", "phase", p.Phase, "bytes", p.ContentBytes, "packed_bytes", p.PackedBytes)
			}
		},
	})
	if err == nil {
		err = s.whole(ctx, body, img)
	}
	if err != nil {
		return importError(err)
	}
	row, err := s.record(ctx, h, img)
	if err != nil {
		return err
	}
	return stream.SendAndClose(showImage(row))
}

func checkHeader(h *operator.ImageHeader) (pack.Format, error) {
	if !imageName.MatchString(h.GetName()) || strings.HasSuffix(h.GetName(), "\n") {
		return "", fault.New(fault.Invalid, "image name %.120q: want at most 100 letters, digits and . _ + -", h.GetName())
	}
	if _, err := manifest.ParseDigest(h.GetName()); err == nil {
		return "", fault.New(fault.Invalid, "image name %.120q looks like a digest; choose another", h.GetName())
	}
	if err := errors.Join(checkWord("version", h.GetVersion()), checkArchitecture(h.GetArchitecture())); err != nil {
		return "", fault.New(fault.Invalid, "%v", err)
	}
	if raw, err := hex.DecodeString(h.GetSourceSha256()); err != nil || len(raw) != 0 && len(raw) != sha256.Size {
		return "", fault.New(fault.Invalid, "source SHA-256 %.80q: want 64 hexadecimal digits", h.GetSourceSha256())
	}
	if h.GetSourceSizeBytes() > 1<<62 {
		return "", fault.New(fault.Invalid, "source size of %d bytes is not believed", h.GetSourceSizeBytes())
	}
	format, err := pack.ParseFormat(h.GetFormat())
	return format, fault.Wrap(fault.Invalid, err, "image header")
}

// whole makes sure that all of the source was read, for its hash covers also
// what stands behind the end of a compressed stream. An image whose source is
// not what was promised does not stay, unless it was there before.
func (s *Server) whole(ctx context.Context, body *upload, img image.Image) error {
	_, err := io.Copy(io.Discard, body)
	if err == nil {
		return nil
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	if _, known := s.c.Store.ImageGet(asking, img.Digest.Hex()); fault.Is(known, fault.NotFound) {
		err = errors.Join(err, s.c.Images.Delete(img.Digest))
	}
	return err
}

func (s *Server) record(ctx context.Context, h *operator.ImageHeader, img image.Image) (Image, error) {
	// The bytes are stored: a caller who goes now shall find them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	m := img.Manifest
	row := Image{
		Digest: img.Digest.Hex(), Name: h.GetName(), Version: h.GetVersion(), Architecture: m.Architecture, Kind: string(m.Kind),
		SizeBytes: m.SizeBytes, PackedSizeBytes: m.PackedSizeBytes, SectorBytes: m.SectorSize, FrameBytes: m.FrameSizeBytes,
		KexecAllowed: !h.GetKexecForbidden(),
	}
	if err := s.c.Store.ImageRecord(ctx, row, s.c.ControllerID, auth.Actor(ctx)); err != nil {
		return row, err
	}
	return s.c.Store.ImageGet(ctx, row.Digest)
}

// importError gives the kinds that a caller can act on.
func importError(err error) error {
	for cause, kind := range map[error]fault.Kind{
		pack.ErrFormat: fault.Invalid, pack.ErrUnsupported: fault.Invalid, pack.ErrTooLarge: fault.Invalid, pack.ErrDamaged: fault.Invalid,
		manifest.ErrInvalid: fault.Invalid, image.ErrUploadTooLarge: fault.Invalid, image.ErrNoSpace: fault.Exhausted,
	} {
		if errors.Is(err, cause) {
			return fault.Wrap(kind, err, "the image was not taken")
		}
	}
	return err
}

// upload reads the pieces of an import as one stream.
type upload struct {
	ctx    context.Context
	pieces chan piece
	rest   bytes.Reader
	sum    hash.Hash
	size   uint64
	header *operator.ImageHeader
	err    error // at the end
}

type piece struct {
	data []byte
	err  error
}

// newUpload reads ahead by one piece. Its goroutine ends with ctx, or at the
// latest when the handler returns, which ends the stream.
func newUpload(ctx context.Context, stream grpc.ClientStreamingServer[operator.ImageImportRequest, operator.Image], h *operator.ImageHeader) *upload {
	u := &upload{ctx: ctx, pieces: make(chan piece, 1), sum: sha256.New(), header: h}
	go func() {
		for {
			r, err := stream.Recv()
			select {
			case u.pieces <- piece{r.GetData(), checkPiece(r, err)}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return u
}

func checkPiece(r *operator.ImageImportRequest, err error) error {
	switch {
	case err != nil:
		return err
	case r.GetHeader() != nil:
		return fault.New(fault.Invalid, "an import has one header, as its first message")
	case len(r.GetData()) > maxChunk:
		return fault.New(fault.Invalid, "a piece of an import has %d bytes, at most %d (1 MiB) are taken", len(r.GetData()), maxChunk)
	}
	return nil
}

// Read ends with io.EOF only if the bytes are those that the header promised.
func (u *upload) Read(p []byte) (int, error) {
	for u.rest.Len() == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.next()
	}
	return u.rest.Read(p)
}

func (u *upload) next() {
	idle := time.NewTimer(importIdle)
	defer idle.Stop()
	select {
	case got := <-u.pieces:
		if errors.Is(got.err, io.EOF) {
			u.err = u.finish()
			return
		}
		u.err = got.err
		u.sum.Write(got.data) // a hash never fails
		u.size += uint64(len(got.data))
		u.rest.Reset(got.data)
	case <-u.ctx.Done():
		u.err = fmt.Errorf("receive the image: %w", context.Cause(u.ctx))
	case <-idle.C:
		u.err = fault.New(fault.Unavailable, "nothing of the image came for %s", importIdle)
	}
}

func (u *upload) finish() error {
	if want := u.header.GetSourceSizeBytes(); want != 0 && u.size != want {
		return fault.New(fault.Invalid, "the source has %d bytes, its header promised %d", u.size, want)
	}
	got := hex.EncodeToString(u.sum.Sum(nil))
	if want := strings.ToLower(u.header.GetSourceSha256()); want != "" && got != want {
		return fault.New(fault.Invalid, "the source has SHA-256 %s, its header promised %s", got, want)
	}
	return io.EOF
}
