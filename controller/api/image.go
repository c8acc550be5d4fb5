package api

import (
	"context"
	"errors"
	"regexp"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// Image is an image's row.
type Image = store.Image

// imageName is what an image may be called, in listings and on command lines.
var imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)

// imageNamed finds an image by digest, with or without its "sha256:", or the
// newest one of a name.
func (s *Server) imageNamed(ctx context.Context, word string) (Image, error) {
	if word == "" {
		return Image{}, fault.New(fault.Invalid, "no image named: ingot image list shows those that are in service")
	}
	if err := checkWord("image", word); err != nil {
		return Image{}, err
	}
	asked := word
	if d, err := manifest.ParseDigest(word); err == nil {
		word = d.Hex()
	}
	img, err := s.c.Store.ImageGet(ctx, word)
	if fault.Is(err, fault.NotFound) {
		return img, fault.New(fault.NotFound, "no image %q: ingot image list shows those that are in service", asked)
	}
	return img, err
}

// digestWord is a digest as people and programs are shown it: with its kind, as
// manifests are named everywhere else.
func digestWord(hex string) string {
	if hex == "" {
		return ""
	}
	return "sha256:" + hex
}

func showImage(i Image) *operator.Image {
	return &operator.Image{
		Digest: digestWord(i.Digest), Name: i.Name, Version: i.Version, Architecture: i.Architecture, Kind: i.Kind, SizeBytes: i.SizeBytes,
		PackedSizeBytes: i.PackedSizeBytes, SectorBytes: i.SectorBytes, FrameBytes: i.FrameBytes, CreatedAt: at(i.CreatedAt), Kexec: i.KexecAllowed,
	}
}

// ImageGet shows one image.
func (s *Server) ImageGet(ctx context.Context, r *operator.ImageGetRequest) (*operator.Image, error) {
	img, err := s.imageNamed(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	return showImage(img), nil
}

// ImageList lists the images in service.
func (s *Server) ImageList(ctx context.Context, r *operator.ImageListRequest) (*operator.ImageListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	key, err := pageKey("images", r.GetPageToken())
	if err != nil {
		return nil, err
	}
	images, next, err := s.c.Store.ImageList(ctx, size, key)
	if err != nil {
		return nil, err
	}
	answer := &operator.ImageListResponse{NextPageToken: pageToken("images", next)}
	for _, i := range images {
		answer.Images = append(answer.Images, showImage(i))
	}
	return answer, nil
}

// ImageDelete takes an image out of service, unless a machine has it or is being
// given it, and then frees the space of this controller's copy.
func (s *Server) ImageDelete(ctx context.Context, r *operator.ImageDeleteRequest) (*emptypb.Empty, error) {
	img, err := s.imageNamed(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.ImageDelete(ctx, img.Digest, auth.Actor(ctx)); err != nil {
		return nil, err
	}
	digest, err := manifest.ParseDigest(img.Digest)
	if err == nil {
		err = s.c.Images.Delete(digest)
	}
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		// The row is gone, so nobody is offered it any more; only space is lost.
		s.log.Error("copy of a deleted image stays on disk", "image", img.Digest, "err", err)
	}
	return &emptypb.Empty{}, nil
}
