package writer

import (
	"context"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// check is Resume's phase: what the target holds already is kept. A sector
// that cannot be read is not an error here, since writing it may mend it.
func (w *write) check(ctx context.Context) error {
	if err := w.target.DropCache(); err != nil {
		return err
	}
	w.kept = make([]bool, len(w.m.Frames))
	return w.eachFrame(ctx, func(i int, buf []byte) error {
		if n, _ := w.target.ReadAt(buf, w.m.FrameOffset(i)); n == len(buf) && w.matches(i, buf) {
			w.kept[i] = true
			w.progress.framesKept.Add(1)
		}
		return nil
	})
}

// verify reads back all frames, or the share that was ordered. Holes that are not zero get one repair.
func (w *write) verify(ctx context.Context) error {
	if err := w.target.DropCache(); err != nil {
		return err
	}
	var mu sync.Mutex
	var bad []int // holes that did not read as zero
	err := w.eachFrame(ctx, func(i int, buf []byte) error {
		if !w.sampled(i) {
			return nil
		}
		if err := readFull(w.target, buf, w.m.FrameOffset(i)); err != nil {
			return err
		}
		if w.matches(i, buf) {
			w.progress.verified.Add(int64(len(buf)))
			return nil
		}
		if !w.m.Frames[i].Zero {
			return w.readBackError(i)
		}
		mu.Lock()
		defer mu.Unlock()
		bad = append(bad, i)
		return nil
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	return w.rewriteHoles(ctx, bad)
}

// sampled spreads the ordered share evenly over the disk, always with both ends.
func (w *write) sampled(i int) bool {
	percent := w.plan.ReadBackPercent
	return i == 0 || i == len(w.m.Frames)-1 || (i+1)*percent/100 != i*percent/100
}

// rewriteHoles is for devices whose "write zeroes" does not: zeros written as
// data must then read back, or the disk is at fault.
func (w *write) rewriteHoles(ctx context.Context, holes []int) error {
	for _, i := range holes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeZeros(w.target, w.zero.each[0], w.m.FrameOffset(i), int64(w.m.Frames[i].Size)); err != nil {
			return err
		}
		w.progress.rewritten.Add(1)
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := w.target.DropCache(); err != nil {
		return err
	}
	buf := w.buffers.each[0]
	for _, i := range holes {
		buf := buf[:w.m.Frames[i].Size]
		if err := readFull(w.target, buf, w.m.FrameOffset(i)); err != nil {
			return err
		}
		if !manifest.IsHole(buf) {
			return w.readBackError(i)
		}
		w.progress.verified.Add(int64(len(buf)))
	}
	return nil
}

func (w *write) readBackError(i int) error {
	return &HashError{Frame: i, Offset: w.m.FrameOffset(i), Stage: StageReadBack}
}

// matches compares content with what the manifest promises for frame i.
func (w *write) matches(i int, content []byte) bool {
	f := &w.m.Frames[i]
	switch {
	case f.Zero:
		return manifest.IsHole(content)
	case xxh3.Hash(content) != f.XXH3: // cheap, and settles most mismatches
		return false
	case w.plan.Proof == ProofXXH3:
		return true
	}
	return manifest.Sum(content) == f.SHA256
}

// eachFrame calls do for every frame, in parallel, about in order, with a
// buffer of the frame's size.
func (w *write) eachFrame(ctx context.Context, do func(i int, buf []byte) error) error {
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := range w.m.Frames {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for _, buf := range w.buffers.each {
		group.Go(func() error {
			for i := range next {
				buf := buf[:w.m.Frames[i].Size]
				if err := do(i, buf); err != nil {
					return err
				}
				w.progress.advance(int64(len(buf)))
			}
			return nil
		})
	}
	return group.Wait()
}
