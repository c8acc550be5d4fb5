package writer

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

const (
	// zeroSpan bounds one call of ZeroRange, which cannot be cancelled and may
	// turn out to write every byte.
	zeroSpan = 256 << 20
	// slowZero is a rate, in bytes a second, below which a target is taken to
	// write its zeros: then a used disk is read instead, and only what is not
	// zero there is zeroed.
	slowZero = 1 << 30
)

// hole is a run of zero frames.
type hole struct {
	first, count int
	length       int64
}

// holes are the image's, cut to zeroSpan.
func (w *write) holes() []hole {
	most := max(zeroSpan/int(w.m.FrameSizeBytes), 1)
	var holes []hole
	for i := range w.m.Frames {
		if !w.m.Frames[i].Zero {
			continue
		}
		size := int64(w.m.Frames[i].Size)
		if n := len(holes); n > 0 && holes[n-1].first+holes[n-1].count == i && holes[n-1].count < most {
			holes[n-1].count++
			holes[n-1].length += size
			continue
		}
		holes = append(holes, hole{first: i, count: 1, length: size})
	}
	return holes
}

// zeroHoles makes all holes really zero. Zeroing is as good as free on most
// disks and needs no look at them first, except on a resume, which changes
// nothing that is right.
func (w *write) zeroHoles(ctx context.Context) error {
	holes := w.holes()
	if w.keep && w.plan.Resume {
		return w.checkHoles(ctx, holes)
	}
	for n, h := range holes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.beforeChange(); err != nil {
			return err
		}
		start := w.plan.Now()
		if err := w.zeroHole(h); err != nil {
			return err
		}
		elapsed := w.plan.Now().Sub(start)
		if w.keep && elapsed > 50*time.Millisecond && float64(h.length) < slowZero*elapsed.Seconds() {
			return w.checkHoles(ctx, holes[n+1:])
		}
	}
	return nil
}

// checkHoles reads first, and zeroes the frames that are not zero.
func (w *write) checkHoles(ctx context.Context, holes []hole) error {
	var frames []int
	for _, h := range holes {
		for i := range h.count {
			frames = append(frames, h.first+i)
		}
	}
	return w.parallel(ctx, len(frames), func(n int) error {
		i := frames[n]
		right, err := w.check(ctx, i)
		if err != nil || right {
			return err
		}
		return w.zeroHole(hole{first: i, count: 1, length: int64(w.m.Frames[i].Size)})
	})
}

func (w *write) zeroHole(h hole) error {
	if err := w.beforeChange(); err != nil {
		return err
	}
	at := w.m.FrameOffset(h.first)
	err := w.each(func(m member) error {
		err := m.ZeroRange(at, h.length)
		var known *SectorError
		if err == nil || errors.As(err, &known) {
			return err
		}
		size := m.SectorSize()
		return &SectorError{Op: "zero", LBA: at / int64(size), SectorSize: size, Err: err}
	})
	if err != nil {
		return err
	}
	w.progress.holesZeroed.Add(int64(h.count))
	w.progress.zeroed.Add(h.length)
	w.progress.advance(h.length)
	return nil
}

// rewriteHoles is for devices whose "write zeroes" does not: zeros written as
// data must then read back, or the disk is at fault.
func (w *write) rewriteHoles(ctx context.Context, holes []int) error {
	for _, i := range holes {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := w.each(func(m member) error {
			return writeZeros(m, w.zero.each[0], w.m.FrameOffset(i), int64(w.m.Frames[i].Size))
		})
		if err != nil {
			return err
		}
		w.progress.rewritten.Add(1)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.dropCache(); err != nil {
		return err
	}
	buf := <-w.reading
	defer func() { w.reading <- buf }()
	for _, i := range holes {
		content := buf[:w.m.Frames[i].Size]
		for _, m := range w.members {
			if err := readFull(m, content, w.m.FrameOffset(i)); err != nil {
				return m.explain(err)
			}
			if !manifest.IsHole(content) {
				return m.explain(w.readBackError(i))
			}
		}
		w.progress.verified.Add(int64(len(content)))
	}
	return nil
}
