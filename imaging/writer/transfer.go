package writer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// zeroSpan bounds one call of ZeroRange, which cannot be cancelled and may
// turn out to write every byte.
const zeroSpan = 256 << 20

// fetchAttempts is how often a frame is fetched before a wrong hash is final.
const fetchAttempts = 3

// packedFrame goes from a fetcher to a worker; buf comes from the pool and
// goes back to it.
type packedFrame struct {
	index int
	buf   []byte // capacity MaxPacked of a whole frame
}

// transfer is the write phase: holes, fetchers and workers side by side. The
// first error ends them all.
func (w *write) transfer(ctx context.Context) error {
	want := func(i int) bool { return w.kept == nil || !w.kept[i] }
	runs := w.m.Runs(want, w.plan.RunBytes, w.plan.maxGap)
	if len(runs) > 0 && w.src == nil {
		return &SourceError{Frame: runs[0].Frames[0], Err: errors.New("there is no source")}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.zeroHoles(ctx) })
	todo := make(chan manifest.Run)
	frames := make(chan packedFrame)
	pool := make(chan []byte, w.plan.packedBuffers)
	for range w.plan.packedBuffers {
		pool <- nil // allocated at first use
	}
	group.Go(func() error {
		defer close(todo)
		for _, run := range runs {
			select {
			case todo <- run:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	group.Go(func() error { return w.fetchAll(ctx, todo, pool, frames) })
	for _, buf := range w.buffers.each {
		group.Go(func() error { return w.work(ctx, buf, pool, frames) })
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
		if buf == nil {
			buf = make([]byte, manifest.MaxPacked(w.m.FrameSizeBytes))
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

// work decodes into its own buffer and writes from it.
func (w *write) work(ctx context.Context, buf []byte, pool chan<- []byte, frames <-chan packedFrame) error {
	dec, err := codec.NewFrameDecoder(int(w.m.FrameSizeBytes))
	if err != nil {
		return err
	}
	defer dec.Close()
	for packed := range frames {
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
		if err := writeFull(w.target, content, w.m.FrameOffset(packed.index)); err != nil {
			return err
		}
		w.progress.framesWritten.Add(1)
		w.progress.written.Add(int64(f.Size))
		w.progress.advance(int64(f.Size))
	}
	return nil
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

// zeroHoles makes every run of holes that is not kept really zero.
func (w *write) zeroHoles(ctx context.Context) error {
	frames := w.m.Frames
	most := max(zeroSpan/int(w.m.FrameSizeBytes), 1)
	for i := 0; i < len(frames); {
		first := i
		var length int64
		for i < len(frames) && i-first < most && frames[i].Zero && (w.kept == nil || !w.kept[i]) {
			length += int64(frames[i].Size)
			i++
		}
		if i == first {
			i++
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.zeroRange(w.m.FrameOffset(first), length); err != nil {
			return err
		}
		w.progress.holesZeroed.Add(int64(i - first))
		w.progress.zeroed.Add(length)
		w.progress.advance(length)
	}
	return nil
}

func (w *write) zeroRange(offset, length int64) error {
	err := w.target.ZeroRange(offset, length)
	var known *SectorError
	if err == nil || errors.As(err, &known) {
		return err
	}
	size := w.target.SectorSize()
	return &SectorError{Op: "zero", LBA: offset / int64(size), SectorSize: size, Err: err}
}
