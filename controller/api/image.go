package api

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// Image is an image's row.
type Image = store.Image

// digestWord is a digest as people and programs are shown it: with its kind, as
// manifests are named everywhere else.
func digestWord(hex string) string {
	if hex == "" {
		return ""
	}
	return "sha256:" + hex
}

// showImage shows a row, and which of keys made its signatures.
func (s *Server) showImage(ctx context.Context, i Image, keys []store.TrustedKey) *operator.Image {
	return &operator.Image{
		Digest: digestWord(i.Digest), Name: i.Name, Version: i.Version, Architecture: i.Architecture, Kind: i.Kind, SizeBytes: i.SizeBytes,
		PackedSizeBytes: i.PackedSizeBytes, SectorBytes: i.SectorBytes, FrameBytes: i.FrameBytes, CreatedAt: at(i.CreatedAt), Kexec: i.KexecAllowed,
		Private: i.Private, Copies: i.HostedOn, InUseBy: i.UsedBy, Signatures: s.showSignatures(ctx, i, keys),
	}
}

// imageShown is an image with all that can be said of it.
func (s *Server) imageShown(ctx context.Context, i Image) (*operator.Image, error) {
	keys, err := s.c.Store.TrustedKeyList(ctx)
	if err != nil {
		return nil, err
	}
	out := s.showImage(ctx, i, keys)
	d, err := manifest.ParseDigest(i.Digest)
	if err != nil {
		return nil, err
	}
	if here, err := s.c.Images.Get(d); err == nil {
		for _, f := range here.Manifest.Frames {
			if f.Zero {
				out.HoleBytes += uint64(f.Size)
			}
		}
	}
	return out, nil
}

// ImageGet shows one image.
func (s *Server) ImageGet(ctx context.Context, r *operator.ImageGetRequest) (*operator.Image, error) {
	img, err := s.imageNamed(ctx, r.GetImage(), "")
	if err != nil {
		return nil, err
	}
	return s.imageShown(ctx, img)
}

// ImageList lists the images in service.
func (s *Server) ImageList(ctx context.Context, r *operator.ImageListRequest) (*operator.ImageListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	if err := checkWord("image", r.GetName()); err != nil {
		return nil, err
	}
	list := "images " + r.GetName()
	key, err := pageKey(list, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	images, next, err := s.c.Store.ImageList(ctx, r.GetName(), size, key)
	if err != nil {
		return nil, err
	}
	keys, err := s.c.Store.TrustedKeyList(ctx)
	if err != nil {
		return nil, err
	}
	answer := &operator.ImageListResponse{NextPageToken: pageToken(list, next)}
	for _, i := range images {
		answer.Images = append(answer.Images, s.showImage(ctx, i, keys))
	}
	return answer, nil
}

// copyHere finds an image of which this controller has a copy.
func (s *Server) copyHere(ctx context.Context, word string) (Image, manifest.Digest, error) {
	img, err := s.imageNamed(ctx, word, "")
	if err != nil {
		return img, "", err
	}
	d, err := manifest.ParseDigest(img.Digest)
	if err == nil {
		_, err = s.c.Images.Get(d)
	}
	if errors.Is(err, image.ErrNotFound) {
		return img, d, fault.New(fault.Precondition, "this controller has no copy of image %s; ask one that has: %s", img.Label(), wordsOr(img.HostedOn, "none"))
	}
	return img, d, err
}

// ImageVerify reads every frame of this controller's copy.
func (s *Server) ImageVerify(r *operator.ImageGetRequest, stream grpc.ServerStreamingServer[operator.ImageVerifyResponse]) error {
	ctx := stream.Context()
	img, d, err := s.copyHere(ctx, r.GetImage())
	if err != nil {
		return err
	}
	release, err := s.reading(ctx)
	if err != nil {
		return err
	}
	defer release()
	told := s.c.Now()
	err = s.c.Images.Verify(ctx, d, func(done int64) {
		if now := s.c.Now(); now.Sub(told) >= tellEvery {
			told = now
			// Whoever went away is noticed by ctx.
			_ = stream.Send(&operator.ImageVerifyResponse{DoneBytes: uint64(done), TotalBytes: img.SizeBytes})
		}
	})
	if errors.Is(err, pack.ErrDamaged) || errors.Is(err, manifest.ErrInvalid) {
		s.log.Error("image is damaged on this controller", "image", img.Digest, "err", err)
		return fault.Wrap(fault.Precondition, err, "image %s is damaged on this controller; import it again, which mends it", img.Label())
	}
	if err != nil {
		return err
	}
	return stream.Send(&operator.ImageVerifyResponse{DoneBytes: img.SizeBytes, TotalBytes: img.SizeBytes, Verified: true})
}

// ImageDelete takes an image out of service, unless a machine has it or is being
// given it, and then frees the space of this controller's copy.
func (s *Server) ImageDelete(ctx context.Context, r *operator.ImageDeleteRequest) (*emptypb.Empty, error) {
	img, err := s.imageAlone(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	if err := s.remove(ctx, img); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *Server) remove(ctx context.Context, img Image) error {
	if err := s.c.Store.ImageDelete(ctx, img.Digest, auth.Actor(ctx)); err != nil {
		return err
	}
	digest, err := manifest.ParseDigest(img.Digest)
	if err == nil {
		err = s.c.Images.Delete(digest)
	}
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		// The row is gone, so nobody is offered it any more; the next look at
		// what is on the disk removes the copy.
		s.log.Error("copy of a deleted image stays on disk", "image", img.Digest, "err", err)
	}
	return nil
}
