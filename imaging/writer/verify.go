package writer

import (
	"context"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// verify reads back all frames that are not settled, or the share that was
// ordered. Holes that are not zero get one repair.
func (w *write) verify(ctx context.Context) error {
	if err := w.dropCache(); err != nil {
		return err
	}
	var mu sync.Mutex
	var bad []int // holes that did not read as zero
	err := w.parallel(ctx, len(w.m.Frames), func(i int) error {
		if !w.settled[i] && w.sampled(i) {
			right, err := w.readBack(i)
			if err != nil {
				return err
			}
			if !right {
				mu.Lock()
				bad = append(bad, i)
				mu.Unlock()
			}
		}
		w.progress.advance(int64(w.m.Frames[i].Size))
		return nil
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	return w.rewriteHoles(ctx, bad)
}

// readBack tells whether frame i is on every member; one with data that is not
// is an error.
func (w *write) readBack(i int) (bool, error) {
	buf := <-w.reading
	defer func() { w.reading <- buf }()
	content := buf[:w.m.Frames[i].Size]
	for _, m := range w.members {
		if err := readFull(m, content, w.m.FrameOffset(i)); err != nil {
			return false, m.explain(err)
		}
		if w.matches(i, content) {
			continue
		}
		if w.m.Frames[i].Zero {
			return false, nil
		}
		return false, m.explain(w.readBackError(i))
	}
	w.progress.verified.Add(int64(len(content)))
	return true, nil
}

// sampled spreads the ordered share evenly over the disk, always with both ends.
func (w *write) sampled(i int) bool {
	percent := w.plan.ReadBackPercent
	return i == 0 || i == len(w.m.Frames)-1 || (i+1)*percent/100 != i*percent/100
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
