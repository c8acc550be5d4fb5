package writer

import (
	"context"
	"errors"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// endBytes at both ends of an image hold what makes a disk start: boot code,
// partition table, and the table's backup. No frame is smaller.
const endBytes = manifest.MinFrameSize

// isEnd tells whether frame i, with data, is written last. Until it is, both
// ends read as zero, so that a cut at any moment leaves a disk that no firmware
// starts from, and never one that is half of one system and half of another.
func (w *write) isEnd(i int) bool {
	f := &w.m.Frames[i]
	at := w.m.FrameOffset(i)
	return !f.Zero && (at < endBytes || at+int64(f.Size) > int64(w.m.SizeBytes)-endBytes)
}

// ordered gives the frames with data: those at the ends, and those between.
func (w *write) ordered() (ends, between []int) {
	for i := range w.m.Frames {
		switch {
		case w.isEnd(i):
			ends = append(ends, i)
		case !w.m.Frames[i].Zero:
			between = append(between, i)
		}
	}
	return ends, between
}

// beforeChange comes before anything else is changed on the target.
func (w *write) beforeChange() error {
	w.blank.Do(func() {
		w.changed = true
		w.blankErr = w.blankEnds()
	})
	return w.blankErr
}

// blankEnds writes zeros as data, since a disk may only pretend to zero.
func (w *write) blankEnds() error {
	size := int64(w.m.SizeBytes)
	n := min(endBytes, size)
	err := w.each(func(m member) error {
		for _, at := range []int64{0, size - n} {
			if err := writeZeros(m, w.zero.each[0], at, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.flush()
}

// finish is the flush phase: all between the ends reaches the medium before the
// ends are written, and then they do.
func (w *write) finish(ctx context.Context) error {
	if err := w.flush(); err != nil {
		return err
	}
	ends, _ := w.ordered()
	if w.keep && !w.changed {
		right := true
		for _, i := range ends {
			ok, err := w.look(i, nil)
			if err != nil {
				return err
			}
			right = right && ok
		}
		if right {
			for _, i := range ends {
				w.settle(i)
			}
			return nil
		}
	}
	if len(ends) == 0 {
		return nil
	}
	if err := w.pipeline(ctx, w.runsOf(ends), nil); err != nil {
		return err
	}
	return w.flush()
}

// disown makes a disk that was found wrong unable to start, as far as it still
// takes writes. An ended context is no finding.
func (w *write) disown(found error) error {
	var hash *HashError
	var sector *SectorError
	if !errors.As(found, &hash) && !errors.As(found, &sector) {
		return nil
	}
	return w.blankEnds()
}
