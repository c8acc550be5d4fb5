package writer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// fetchAttempts is how often a frame is fetched before a wrong hash is final.
const fetchAttempts = 3

// packedFrame goes from a fetcher to a worker; buf comes from the pool and
// goes back to it.
type packedFrame struct {
	index int
	buf   []byte
}

// transfer is the write phase: everything but the ends, with holes, checkers,
// fetchers and workers side by side. The first error ends them all.
func (w *write) transfer(ctx context.Context) error {
	if !w.keep {
		if err := w.beforeChange(); err != nil {
			return err
		}
	}
	w.next()
	_, data := w.ordered()
	return w.pipeline(ctx, w.m.Runs(data, w.plan.runs), w.zeroHoles)
}

// pipeline brings the frames of runs from the source to the target, and does
// also (if not nil) beside that.
func (w *write) pipeline(ctx context.Context, runs []manifest.Run, also func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	if also != nil {
		group.Go(func() error { return also(ctx) })
	}
	todo := make(chan manifest.Run)
	frames := make(chan packedFrame)
	pool := make(chan []byte, w.plan.packedBuffers)
	for _, buf := range w.packed.each {
		pool <- buf
	}
	group.Go(func() error {
		defer close(todo)
		if w.keep && also != nil {
			return w.checkRuns(ctx, runs, todo)
		}
		return send(ctx, todo, runs)
	})
	group.Go(func() error { return w.fetchAll(ctx, todo, pool, frames) })
	done := make(chan struct{})
	group.Go(func() error {
		defer close(done)
		return w.workAll(ctx, pool, frames)
	})
	if also != nil {
		group.Go(func() error { return w.readBackEarly(ctx, done) })
	}
	return group.Wait()
}

// fetchAll runs the connections and closes frames when all have ended.
func (w *write) fetchAll(ctx context.Context, todo <-chan manifest.Run, pool <-chan []byte, frames chan<- packedFrame) error {
	defer close(frames)
	group, ctx := errgroup.WithContext(ctx)
	for range w.plan.Connections {
		group.Go(func() error {
			for run := range todo {
				if err := w.fetchRun(ctx, run, pool, frames); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (w *write) fetchRun(ctx context.Context, run manifest.Run, pool <-chan []byte, frames chan<- packedFrame) error {
	if w.src == nil {
		return &SourceError{Frame: run.Frames[0], Err: errors.New("there is no source")}
	}
	body, err := w.src.Range(ctx, run.Offset, run.Length)
	if err != nil {
		return w.sourceError(ctx, run.Frames[0], err)
	}
	defer body.Close()
	at := run.Offset
	for _, i := range run.Frames {
		f := &w.m.Frames[i]
		if gap := int64(f.Offset) - at; gap > 0 {
			n, err := io.CopyN(io.Discard, body, gap)
			w.progress.fetched.Add(n)
			if err != nil {
				return w.sourceError(ctx, i, err)
			}
		}
		var buf []byte
		select {
		case buf = <-pool:
		case <-ctx.Done():
			return ctx.Err()
		}
		buf = buf[:f.PackedSize]
		n, err := io.ReadFull(body, buf)
		w.progress.fetched.Add(int64(n))
		if err != nil {
			return w.sourceError(ctx, i, err)
		}
		at = int64(f.Offset) + int64(f.PackedSize)
		select {
		case frames <- packedFrame{index: i, buf: buf}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *write) sourceError(ctx context.Context, frame int, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &SourceError{Frame: frame, Err: err}
}

// ensurePacked checks the packed hash, and fetches a frame that fails it anew.
func (w *write) ensurePacked(ctx context.Context, packed packedFrame) error {
	f := &w.m.Frames[packed.index]
	for attempt := 1; manifest.Sum(packed.buf) != f.PackedSHA256; attempt++ {
		if attempt == fetchAttempts {
			return &HashError{Frame: packed.index, Offset: w.m.FrameOffset(packed.index), Stage: StagePacked,
				Err: fmt.Errorf("fetched %d times", fetchAttempts)}
		}
		if s, ok := w.src.(interface{ Suspect(offset, length int64) }); ok {
			s.Suspect(int64(f.Offset), int64(f.PackedSize))
		}
		w.progress.refetched.Add(1)
		body, err := w.src.Range(ctx, int64(f.Offset), int64(f.PackedSize))
		if err != nil {
			return w.sourceError(ctx, packed.index, err)
		}
		n, err := io.ReadFull(body, packed.buf)
		body.Close()
		w.progress.fetched.Add(int64(n))
		if err != nil {
			return w.sourceError(ctx, packed.index, err)
		}
	}
	return nil
}
