package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/codec"
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
	dec, err := codec.NewFrameDecoder(int(m.FrameSizeBytes))
	if err != nil {
		return fmt.Errorf("verify holes: %w", err)
	}
	defer dec.Close()
	content := make([]byte, m.FrameSizeBytes)
	var buf, proven []byte // proven: a hole of full size, packed
	for i, f := range m.Frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.Zero {
			continue
		}
		size := int(at[i+1] - at[i])
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		if _, err := packed.ReadAt(buf[:size], int64(at[i])); err != nil {
			return fmt.Errorf("verify holes: frame %d: %w", i, err)
		}
		if f.Size == m.FrameSizeBytes && bytes.Equal(buf[:size], proven) {
			continue
		}
		if err := dec.Decode(buf[:size], content[:f.Size]); err != nil || !manifest.IsHole(content[:f.Size]) {
			return fmt.Errorf("verify holes: frame %d: %w: it does not hold zeros", i, ErrDamaged)
		}
		if f.Size == m.FrameSizeBytes {
			proven = bytes.Clone(buf[:size])
		}
	}
	return nil
}
