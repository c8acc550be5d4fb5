package writer

import (
	"context"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/codec"
)

// workAll runs the workers until there are no more frames.
func (w *write) workAll(ctx context.Context, pool chan<- []byte, frames <-chan packedFrame) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, buf := range w.workers.each {
		group.Go(func() error { return w.work(ctx, buf, pool, frames) })
	}
	return group.Wait()
}

// work decodes into its own buffer and writes from it.
func (w *write) work(ctx context.Context, buf []byte, pool chan<- []byte, frames <-chan packedFrame) error {
	dec, err := codec.NewFrameDecoder(int(w.m.FrameSizeBytes))
	if err != nil {
		return err
	}
	defer dec.Close()
	for {
		idle := w.plan.Now()
		packed, ok := <-frames
		if !ok {
			return nil
		}
		waited := w.plan.Now().Sub(idle)
		if err := ctx.Err(); err != nil {
			return err
		}
		f := &w.m.Frames[packed.index]
		if err := w.ensurePacked(ctx, packed); err != nil {
			return err
		}
		if w.plan.OnFrame != nil {
			w.plan.OnFrame(packed.index, packed.buf)
		}
		content := buf[:f.Size]
		if err := dec.Decode(packed.buf, content); err != nil || xxh3.Hash(content) != f.XXH3 {
			return &HashError{Frame: packed.index, Offset: w.m.FrameOffset(packed.index), Stage: StageContent, Err: err}
		}
		pool <- packed.buf[:0] // never blocks: it has room for all
		if err := w.put(packed.index, content); err != nil {
			return err
		}
		w.note(packed.index, waited)
		w.progress.framesWritten.Add(1)
		w.progress.advance(int64(f.Size))
	}
}

// put writes a frame to every member, or what that one lacks of it. What
// belongs to the ends is held back.
func (w *write) put(frame int, content []byte) error {
	if err := w.beforeChange(); err != nil {
		return err
	}
	if w.isEnd(frame) {
		between := w.hold(frame, content)
		w.progress.written.Add(int64(len(content)))
		return w.each(func(m member) error { return w.putSpan(m, frame, content, between) })
	}
	old := w.old.take(frame)
	var now []uint64
	if old != nil {
		now = w.old.sums(content)
	}
	return w.each(func(m member) error {
		var there []uint64
		if old != nil {
			there = old[m.index]
		}
		written := 0
		for _, p := range pieces(len(content), there, now) {
			if err := w.putSpan(m, frame, content, p); err != nil {
				return err
			}
			written += p.to - p.from
		}
		if m.index == 0 { // a mirror's progress is that of one disk
			w.progress.written.Add(int64(written))
			w.progress.kept.Add(int64(len(content) - written))
		}
		return nil
	})
}

func (w *write) putSpan(m member, frame int, content []byte, s span) error {
	if s.from == s.to {
		return nil
	}
	return writeFull(m, content[s.from:s.to], w.m.FrameOffset(frame)+int64(s.from))
}
