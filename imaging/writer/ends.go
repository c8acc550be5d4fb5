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

// end is the content of one end, from when it is decoded until it is written.
type end struct {
	at      int64 // in the image, in bytes
	content []byte
}

// allocateEnds makes both ends, all zero; those of a small image do not overlap.
func (w *write) allocateEnds() (err error) {
	if w.held, err = newAlignedBuffers(2, endBytes, 0); err != nil {
		return err
	}
	size := int64(w.m.SizeBytes)
	head := min(endBytes, size)
	tail := max(size-endBytes, head)
	w.head = end{0, w.held.each[0][:head]}
	w.tail = end{tail, w.held.each[1][:size-tail]}
	return nil
}

// hold keeps of a frame what belongs to the ends, and gives the span that may be
// written at once.
func (w *write) hold(frame int, content []byte) span {
	at := w.m.FrameOffset(frame)
	last := at + int64(len(content))
	for _, e := range []end{w.head, w.tail} {
		from, to := max(at, e.at), min(last, e.at+int64(len(e.content)))
		if from < to {
			copy(e.content[from-e.at:], content[from-at:to-at])
		}
	}
	from := max(at, int64(len(w.head.content)))
	return span{int(from - at), int(max(min(last, w.tail.at), from) - at)}
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
	err := w.each(func(m member) error {
		for _, e := range []end{w.head, w.tail} {
			if err := writeZeros(m, w.zero.each[0], e.at, int64(len(e.content))); err != nil {
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
	ends, _ := w.ordered()
	if w.keep && !w.changed {
		right, err := w.endsRight(ends)
		if err != nil {
			return err
		}
		if right {
			return w.flush()
		}
	}
	if err := w.pipeline(ctx, w.m.Runs(ends, w.plan.runs), nil); err != nil {
		return err
	}
	return w.writeEnds(ctx)
}

// endsRight settles the frames at the ends if all of them are right.
func (w *write) endsRight(ends []int) (bool, error) {
	for _, i := range ends {
		if right, err := w.look(i, nil); err != nil || !right {
			return false, err
		}
	}
	for _, i := range ends {
		w.settle(i)
	}
	return true, nil
}

// writeEnds flushes before each end. The one at the start comes last, since
// firmware that finds no table there may take the one at the end of a disk, and
// then has to find all of the image but its start.
func (w *write) writeEnds(ctx context.Context) error {
	for _, e := range []end{w.tail, w.head} {
		if manifest.IsHole(e.content) {
			continue // it is blank
		}
		if err := w.flush(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.each(func(m member) error { return writeFull(m, e.content, e.at) }); err != nil {
			return err
		}
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
