package deploy

import (
	"context"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// content reads the image before it is written anywhere, a frame at a time, for
// a look at its partition table and superblocks.
type content struct {
	ctx      context.Context // of the one phase that this lives in
	manifest *manifest.Manifest
	source   writer.Source
	decoder  *codec.FrameDecoder
	keep     func(frame int, packed []byte) // hears of each frame that is right; nil: nobody
	fetched  int                            // see maxPeek
	frames   map[int][]byte                 // the latest of them, maxHeld bytes at most
}

const (
	// maxPeek bounds the frames that a look may fetch: tables at both ends, and
	// the start of each partition.
	maxPeek = 48
	// maxHeld is for the largest frames: 48 of them would not fit into a
	// machine with 1 GiB.
	maxHeld = 64 << 20
	// fetchAttempts is how often a frame is fetched before a wrong hash is final.
	fetchAttempts = 3
)

func newContent(ctx context.Context, m *manifest.Manifest, source writer.Source) (*content, error) {
	decoder, err := codec.NewFrameDecoder(int(m.FrameSizeBytes))
	if err != nil {
		return nil, fmt.Errorf("look at the image: %w", err)
	}
	return &content{ctx: ctx, manifest: m, source: source, decoder: decoder, frames: map[int][]byte{}}, nil
}

func (c *content) close() { c.decoder.Close() }

// ReadAt is io.ReaderAt's.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at < 0 || at >= int64(c.manifest.SizeBytes) {
			return done, io.EOF
		}
		i := int(at / int64(c.manifest.FrameSizeBytes))
		frame, err := c.frame(i)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], frame[at-c.manifest.FrameOffset(i):])
	}
	return done, nil
}

func (c *content) frame(i int) ([]byte, error) {
	f := c.manifest.Frames[i]
	if f.Zero {
		return make([]byte, f.Size), nil
	}
	if data, ok := c.frames[i]; ok {
		return data, nil
	}
	if c.fetched == maxPeek {
		return nil, fmt.Errorf("look at the image: more than %d frames are needed", maxPeek)
	}
	c.fetched++
	packed, err := c.fetch(i)
	if err != nil {
		return nil, err
	}
	if c.keep != nil {
		c.keep(i, packed)
	}
	wrong := &writer.HashError{Frame: i, Offset: c.manifest.FrameOffset(i), Stage: writer.StageContent}
	data := make([]byte, f.Size)
	if wrong.Err = c.decoder.Decode(packed, data); wrong.Err != nil || manifest.Sum(data) != f.SHA256 {
		return nil, wrong
	}
	if (len(c.frames)+1)*int(c.manifest.FrameSizeBytes) > maxHeld {
		clear(c.frames)
	}
	c.frames[i] = data
	return data, nil
}

// fetch gives the packed frame i, as the manifest names it. What hashes wrong is
// asked for again, of another place if the order names one.
func (c *content) fetch(i int) ([]byte, error) {
	f := &c.manifest.Frames[i]
	offset, size := int64(f.Offset), int64(f.PackedSize)
	packed := make([]byte, size)
	for range fetchAttempts {
		if err := c.fill(packed, offset); err != nil {
			return nil, &writer.SourceError{Frame: i, Err: err}
		}
		if manifest.Sum(packed) == f.PackedSHA256 {
			return packed, nil
		}
		fetch.Suspect(c.source, offset, size)
	}
	return nil, &writer.HashError{Frame: i, Offset: c.manifest.FrameOffset(i), Stage: writer.StagePacked,
		Err: fmt.Errorf("fetched %d times", fetchAttempts)}
}

func (c *content) fill(packed []byte, offset int64) error {
	r, err := c.source.Range(c.ctx, offset, int64(len(packed)))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, packed)
	return err
}
