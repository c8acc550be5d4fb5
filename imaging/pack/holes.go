package pack

import (
	"context"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// VerifyHoles is the part of Verify for whoever has compared the packed hash of
// every frame with data already, as a copy is made: the seek table and the
// packed holes, which no hash covers. What is wrong wraps ErrDamaged.
func VerifyHoles(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest) error {
	at, err := readPlaces(packed, m)
	if err != nil {
		return fmt.Errorf("verify holes: %w", err)
	}
	r, err := newFrameReader(packed, m, at)
	if err != nil {
		return fmt.Errorf("verify holes: %w", err)
	}
	defer r.close()
	content := make([]byte, m.FrameSizeBytes)
	for i, f := range m.Frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.Zero {
			continue
		}
		if _, err := r.read(i, content[:f.Size], nil); err != nil {
			return fmt.Errorf("verify holes: %w", err)
		}
	}
	return nil
}
