package api

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/fault"
)

var (
	// imageName is what an image may be called, in listings and on command lines.
	imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)
	// imageVersion may hold what versions hold, and no @, which parts it from the
	// name.
	imageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}$`)
)

// candidates is how many of them are named to a person.
const candidates = 10

// reference is what an image is called by: a digest, NAME@VERSION or NAME.
type reference struct {
	digest, name, version string
	exact                 bool // the version was said, if only as nothing
}

func parseReference(word string) (reference, error) {
	if word == "" {
		return reference{}, fault.New(fault.Invalid, "no image named: ingot image list shows those that are in service")
	}
	if err := checkWord("image", word); err != nil {
		return reference{}, err
	}
	if d, err := manifest.ParseDigest(word); err == nil {
		return reference{digest: d.Hex()}, nil
	}
	name, version, exact := strings.Cut(word, "@")
	return reference{name: name, version: version, exact: exact}, nil
}

// imageNamed finds the image that a word means on machines of an architecture.
// Without one it must be clear by itself.
func (s *Server) imageNamed(ctx context.Context, word, architecture string) (Image, error) {
	ref, list, err := s.imagesNamed(ctx, word)
	if err != nil || ref.digest != "" {
		return first(list), err
	}
	if architecture != "" {
		fit := slices.DeleteFunc(slices.Clone(list), func(i Image) bool { return i.Architecture != architecture })
		if len(fit) == 0 {
			return Image{}, fault.New(fault.Precondition, "the machine is %s, and image %s is for another architecture: %s", architecture, word, described(list))
		}
		list = fit
	}
	if slices.ContainsFunc(list, func(i Image) bool { return i.Architecture != list[0].Architecture }) {
		return Image{}, ambiguous(word, list)
	}
	list = newest(list)
	if len(list) > 1 && list[0].Version != "" {
		return Image{}, ambiguous(word, list)
	}
	return list[0], nil
}

// imageAlone is imageNamed for what cannot be taken back: a name must not stand
// for several images.
func (s *Server) imageAlone(ctx context.Context, word string) (Image, error) {
	_, list, err := s.imagesNamed(ctx, word)
	if err == nil && len(list) > 1 {
		err = ambiguous(word, list)
	}
	return first(list), err
}

// imagesNamed lists all that a word may mean, the one imported last first. There
// is at least one.
func (s *Server) imagesNamed(ctx context.Context, word string) (reference, []Image, error) {
	ref, err := parseReference(word)
	if err != nil {
		return ref, nil, err
	}
	if ref.digest != "" {
		img, err := s.c.Store.ImageGet(ctx, ref.digest)
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.NotFound, "no image %q: ingot image list shows those that are in service", word)
		}
		return ref, []Image{img}, err
	}
	all, err := s.c.Store.ImageNamed(ctx, ref.name)
	if err != nil {
		return ref, nil, err
	}
	if len(all) == 0 {
		return ref, nil, fault.New(fault.NotFound, "no image %q: ingot image list shows those that are in service", word)
	}
	if !ref.exact {
		return ref, all, nil
	}
	list := slices.DeleteFunc(slices.Clone(all), func(i Image) bool { return i.Version != ref.version })
	if len(list) == 0 {
		return ref, nil, fault.New(fault.NotFound, "image %s has no version %q; there are: %s", ref.name, ref.version, described(all))
	}
	return ref, list, nil
}

func first(list []Image) Image {
	if len(list) == 0 {
		return Image{}
	}
	return list[0]
}

// newest keeps the images of the newest version, the one imported last first.
func newest(list []Image) []Image {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Image) int {
		return cmp.Or(newerVersion(b.Version, a.Version), b.CreatedAt.Compare(a.CreatedAt))
	})
	return slices.DeleteFunc(list, func(i Image) bool { return newerVersion(i.Version, list[0].Version) != 0 })
}

func ambiguous(word string, list []Image) error {
	return fault.New(fault.Invalid, "image %s may be any of these: %s. Say which, by NAME@VERSION or by its digest", word, described(list))
}

// described names images so that each can be told from the others.
func described(list []Image) string {
	var words []string
	for _, i := range list {
		if len(words) == candidates {
			words = append(words, fmt.Sprintf("and %d more", len(list)-candidates))
			break
		}
		words = append(words, fmt.Sprintf("%s for %s (%s)", i.Label(), i.Architecture, digestWord(i.Digest)))
	}
	return strings.Join(words, ", ")
}
