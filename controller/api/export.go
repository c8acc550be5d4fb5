package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// tellEvery is how often a stream tells how far it is.
	tellEvery = 500 * time.Millisecond
	// readers is how many exports and verifications run side by side; others
	// wait. Each may keep a core busy.
	readers = 2
	// exportChunk is the size of a message of an export, in bytes.
	exportChunk = 256 << 10

	formatBundle   = "bundle"
	formatManifest = "manifest"
)

// reading waits for one of the places for reading images whole.
func (s *Server) reading(ctx context.Context) (release func(), err error) {
	select {
	case s.readers <- struct{}{}:
		return func() { <-s.readers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ImageExport gives an image's bytes.
func (s *Server) ImageExport(r *operator.ImageExportRequest, stream grpc.ServerStreamingServer[operator.ImageExportResponse]) error {
	ctx := stream.Context()
	write, err := s.exporter(r.GetFormat())
	if err != nil {
		return err
	}
	img, d, err := s.copyHere(ctx, r.GetImage())
	if err != nil {
		return err
	}
	release, err := s.reading(ctx)
	if err != nil {
		return err
	}
	defer release()
	out := &chunks{send: func(p []byte) error { return stream.Send(&operator.ImageExportResponse{Data: p}) }}
	err = write(ctx, img, d, out)
	if err == nil {
		err = out.flush()
	}
	if errors.Is(err, pack.ErrDamaged) {
		s.log.Error("image is damaged on this controller", "image", img.Digest, "err", err)
		return fault.Wrap(fault.Precondition, err, "image %s is damaged on this controller; import it again, which mends it", img.Label())
	}
	return err
}

// exporter finds what writes a format.
func (s *Server) exporter(format string) (func(context.Context, Image, manifest.Digest, io.Writer) error, error) {
	switch format {
	case formatManifest:
		return func(_ context.Context, _ Image, d manifest.Digest, out io.Writer) error {
			data, err := s.c.Images.ManifestBytes(d)
			if err == nil {
				_, err = out.Write(data)
			}
			return err
		}, nil
	case formatBundle:
		return func(ctx context.Context, i Image, d manifest.Digest, out io.Writer) error {
			b := image.Bundle{Name: i.Name, Version: i.Version, Private: i.Private, KexecForbidden: !i.KexecAllowed}
			for _, sig := range i.Signatures {
				b.Signatures = append(b.Signatures, sig.Text)
			}
			return s.c.Images.BundleExport(ctx, d, b, out)
		}, nil
	}
	var words []string
	for _, f := range pack.ExportFormats() {
		if format == string(f) {
			return func(ctx context.Context, _ Image, d manifest.Digest, out io.Writer) error {
				return s.c.Images.Export(ctx, d, out, f)
			}, nil
		}
		words = append(words, string(f))
	}
	return nil, fault.New(fault.Invalid, "export format %.40q: want %s, %s or %s", format, strings.Join(words, ", "), formatBundle, formatManifest)
}

// chunks makes messages of what is written.
type chunks struct {
	send func([]byte) error
	held []byte
}

func (c *chunks) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, exportChunk-len(c.held))
		c.held = append(c.held, p[done:done+n]...)
		done += n
		if len(c.held) == exportChunk {
			if err := c.flush(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// flush sends what is held. gRPC has copied it when send returns.
func (c *chunks) flush() error {
	if len(c.held) == 0 {
		return nil
	}
	err := c.send(c.held)
	c.held = c.held[:0]
	return err
}

const octets = "application/octet-stream"

// exportRaw answers an export over REST with the bytes as they are, for who asks
// for them by Accept: application/octet-stream. All else goes to next. An export
// that fails half-way is cut off, so that nobody takes it for whole.
func (s *Server) exportRaw(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		word, ok := strings.CutPrefix(r.URL.Path, "/v1/images/")
		word, export := strings.CutSuffix(word, ":export")
		if !ok || !export || r.Method != http.MethodGet || r.Header.Get("Accept") != octets || strings.Contains(word, "/") {
			next.ServeHTTP(w, r)
			return
		}
		ctx := metadata.AppendToOutgoingContext(r.Context(), "authorization", r.Header.Get("Authorization"))
		stream, err := operator.NewImageServiceClient(s.conn).ImageExport(ctx, &operator.ImageExportRequest{Image: word, Format: r.URL.Query().Get("format")})
		var part *operator.ImageExportResponse
		if err == nil {
			part, err = stream.Recv()
		}
		if err != nil {
			refuse(w, statusCode(err), statusText(err))
			return
		}
		w.Header().Set("Content-Type", octets)
		for ; err == nil; part, err = stream.Recv() {
			if _, err := w.Write(part.GetData()); err != nil {
				return // the asker went
			}
		}
		if !errors.Is(err, io.EOF) {
			panic(http.ErrAbortHandler)
		}
	})
}
