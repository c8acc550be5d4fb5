package api

import (
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// Bounds of a request for a download, in bytes.
const (
	maxURL = 2048
	maxKey = 1024
)

// ImageImportURL fetches an image and puts it into service. A caller who goes
// away ends it.
func (s *Server) ImageImportURL(r *operator.ImageImportURLRequest, stream grpc.ServerStreamingServer[operator.ImageImportURLResponse]) error {
	ctx := stream.Context()
	h := r.GetHeader()
	format, err := checkHeader(h)
	if err != nil {
		return err
	}
	if err := checkURLRequest(r, format); err != nil {
		return err
	}
	log := s.logProgress(s.log.With("image_name", h.GetName(), "actor", auth.Actor(ctx)))
	told, phase := s.c.Now(), ""
	img, err := s.c.Images.Import(ctx, image.Source{
		URL:   r.GetUrl(),
		Proof: image.Proof{SHA256: h.GetSourceSha256(), PublicKey: r.GetMinisignKey(), SignatureURL: r.GetMinisignUrl()},
	}, image.Request{Format: format, Architecture: h.GetArchitecture(), Name: h.GetName(), Trim: h.GetTrim(), Progress: func(p pack.Progress) {
		log(p)
		now := s.c.Now()
		if p.Phase == phase && now.Sub(told) < tellEvery {
			return
		}
		told, phase = now, p.Phase
		// A caller who went away is noticed by ctx.
		_ = stream.Send(showProgressOf(p))
	}})
	if err != nil {
		return importError(err)
	}
	shown, err := s.record(ctx, h, imported{Image: img})
	if err != nil {
		return err
	}
	return stream.Send(&operator.ImageImportURLResponse{Phase: "done", DoneBytes: shown.GetSizeBytes(), TotalBytes: shown.GetSizeBytes(), Image: shown})
}

func checkURLRequest(r *operator.ImageImportURLRequest, format pack.Format) error {
	h := r.GetHeader()
	switch {
	case format == formatBundle:
		return fault.New(fault.Invalid, "a bundle is not fetched by the controller; fetch it and import the file")
	case r.GetUrl() == "":
		return fault.New(fault.Invalid, "no URL given")
	case len(r.GetUrl()) > maxURL || len(r.GetMinisignUrl()) > maxURL || len(r.GetMinisignKey()) > maxKey:
		return fault.New(fault.Invalid, "URLs have at most %d bytes and a public key %d", maxURL, maxKey)
	case h.GetSourceSizeBytes() != 0:
		return fault.New(fault.Invalid, "the size of what a URL gives is the source's to say")
	}
	return checkArchitecture(h.GetArchitecture())
}

// showProgressOf counts what comes in while that is what it waits for, and then
// the disk's content.
func showProgressOf(p pack.Progress) *operator.ImageImportURLResponse {
	out := &operator.ImageImportURLResponse{Phase: p.Phase, DoneBytes: uint64(p.ContentBytes), TotalBytes: uint64(p.ContentTotal)}
	if p.Phase == "download" || p.Phase == "check" {
		out.DoneBytes, out.TotalBytes = uint64(p.InputBytes), uint64(p.InputTotal)
	}
	return out
}
