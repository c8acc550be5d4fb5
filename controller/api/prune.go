package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// maxKeep bounds the versions that a prune may be asked to keep.
const maxKeep = 1000

// ImagePrune deletes old versions that no machine has. What came into use since
// it was looked at stays, for the deletion is refused.
func (s *Server) ImagePrune(ctx context.Context, r *operator.ImagePruneRequest) (*operator.ImagePruneResponse, error) {
	if err := checkWord("image", r.GetName()); err != nil {
		return nil, err
	}
	if r.GetKeep() > maxKeep {
		return nil, fault.New(fault.Invalid, "keep %d: want at most %d", r.GetKeep(), maxKeep)
	}
	all, err := s.allImages(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	if r.GetName() != "" && len(all) == 0 {
		return nil, fault.New(fault.NotFound, "no image %q: ingot image list shows those that are in service", r.GetName())
	}
	answer := &operator.ImagePruneResponse{}
	for _, img := range superseded(all, max(int(r.GetKeep()), 1)) {
		used := len(img.UsedBy) > 0
		if !used && !r.GetDryRun() {
			switch err := s.remove(ctx, img); {
			case fault.Is(err, fault.Precondition):
				used = true
			case fault.Is(err, fault.NotFound): // somebody else did
				continue
			case err != nil:
				return nil, err
			}
		}
		shown := s.showImage(ctx, img, nil)
		if used {
			answer.InUse = append(answer.InUse, shown)
			continue
		}
		answer.Images = append(answer.Images, shown)
		answer.FreedBytes += img.PackedSizeBytes
	}
	return answer, nil
}

// allImages reads every page.
func (s *Server) allImages(ctx context.Context, name string) ([]Image, error) {
	var all []Image
	for token := ""; ; {
		page, next, err := s.c.Store.ImageList(ctx, name, 500, token)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if token = next; token == "" {
			return all, nil
		}
	}
}

// superseded are the images beyond the newest ones to keep of each name and
// architecture.
func superseded(all []Image, keep int) []Image {
	slices.SortFunc(all, func(a, b Image) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Architecture, b.Architecture),
			newerVersion(b.Version, a.Version), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Digest, b.Digest))
	})
	var old []Image
	kept := 0
	for i, img := range all {
		if i == 0 || img.Name != all[i-1].Name || img.Architecture != all[i-1].Architecture {
			kept = 0
		}
		if kept++; kept > keep {
			old = append(old, img)
		}
	}
	return old
}
