package pack

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// checked is one frame whose bytes were found to be right.
type checked struct {
	index   int
	content []byte
	packed  []byte // of a hole only where its packed bytes were asked for
	done    chan struct{}
}

// inOrder reads and checks all frames in parallel, and hands them to use one
// after the other, on one goroutine. With places the packed bytes of holes are
// read and checked too. Memory is bounded to a few frames for each core.
func inOrder(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, p places, use func(*checked) error) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), 16, len(m.Frames))
	count := min(2*workers+1, len(m.Frames))
	free := make(chan *checked, count)
	work := make(chan *checked, count)
	ordered := make(chan *checked, count)
	for range count {
		free <- &checked{done: make(chan struct{}, 1)}
	}
	group.Go(func() error {
		defer close(ordered)
		defer close(work)
		for i := range m.Frames {
			select {
			case c := <-free:
				c.index = i
				work <- c // room for all of them: neither of these blocks
				ordered <- c
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error { return readFrames(ctx, packed, m, p, work) })
	}
	group.Go(func() error {
		for c := range ordered {
			select {
			case <-c.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := use(c); err != nil {
				return err
			}
			free <- c
		}
		return nil
	})
	return group.Wait()
}

func readFrames(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, p places, work <-chan *checked) error {
	r, err := newFrameReader(packed, m, p)
	if err != nil {
		return err
	}
	defer r.close()
	for c := range work {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := m.Frames[c.index].Size
		if c.content == nil {
			c.content = make([]byte, m.FrameSizeBytes)
			c.packed = make([]byte, manifest.MaxPacked(m.FrameSizeBytes))
		}
		c.content = c.content[:size]
		packed, err := r.read(c.index, c.content, c.packed[:cap(c.packed)])
		if err != nil {
			return err
		}
		c.packed = c.packed[:len(packed)] // nil of a hole leaves nothing
		c.done <- struct{}{}
	}
	return nil
}

// Verify checks a whole packed file against its manifest, in parallel: every
// frame with data, that holes unpack to zeros, and that the seek table says
// what the manifest says. So whoever unpacks it with other tools gets the same
// disk. progress, which may be nil, is told content bytes from one goroutine.
// A wrong frame wraps ErrDamaged.
func Verify(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, progress func(int64)) error {
	if err := verify(ctx, packed, m, progress); err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	return nil
}

func verify(ctx context.Context, packed io.ReaderAt, m *manifest.Manifest, progress func(int64)) error {
	if err := m.Validate(); err != nil {
		return err
	}
	p, err := readPlaces(packed, m)
	if err != nil {
		return err
	}
	return inOrder(ctx, packed, m, p, func(c *checked) error {
		if progress != nil {
			progress(m.FrameOffset(c.index) + int64(len(c.content)))
		}
		return nil
	})
}
