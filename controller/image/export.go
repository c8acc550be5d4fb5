package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// frames opens a copy's packed frames; the caller closes. A copy that is deleted
// meanwhile can be read to its end.
func (s *Store) frames(d manifest.Digest) (Image, *os.File, error) {
	img, err := s.get(d)
	if err != nil {
		return img, nil, err
	}
	f, err := os.Open(filepath.Join(s.path(d), pack.FramesFile))
	return img, f, err
}

// Export writes the disk of an image in a format of pack.ExportFormats. Every
// frame is checked on the way; what is in out after an error is no image.
func (s *Store) Export(ctx context.Context, d manifest.Digest, out io.Writer, f pack.Format) error {
	img, frames, err := s.frames(d)
	if err != nil {
		return fmt.Errorf("export image %s: %w", d, err)
	}
	defer frames.Close()
	if err := pack.Export(ctx, frames, img.Manifest, out, f, nil); err != nil {
		return fmt.Errorf("image %s: %w", d, err)
	}
	return nil
}
