package writer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Write puts the image on the target and proves that it is there. The
// manifest must have come from manifest.Parse, so that its sums are known to
// add up. It returns when all goroutines have ended, on success with
// Report.Verified (or Sampled, if that was ordered), otherwise with what was
// done up to then and one of *SizeError, *SectorSizeError, *SourceError,
// *HashError, *SectorError, or the context's error.
//
// src may be nil if Resume will find everything in place (to verify alone).
func Write(ctx context.Context, target Target, m *manifest.Manifest, src Source, opts Options) (Report, error) {
	return newWrite(target, m, src, opts).do(ctx)
}

func newWrite(target Target, m *manifest.Manifest, src Source, opts Options) *write {
	w := &write{members: membersOf(target), m: m, src: src, plan: opts.plan(m)}
	w.progress = newMeter(w.plan, int64(m.SizeBytes))
	w.early.enough = make(chan struct{}, 1)
	return w
}

func (w *write) do(ctx context.Context) (Report, error) {
	err := w.run(ctx)
	report := w.report
	w.progress.fill(&report)
	if err != nil {
		return report, fmt.Errorf("write image: %w", err)
	}
	return report, nil
}

type write struct {
	members []member // one, or those of a Mirror
	m       *manifest.Manifest
	src     Source
	plan    plan

	keep    bool   // what is on the target already may stay
	settled []bool // frame i was read from the medium as it should be, and not written since; each has one owner at a time
	old     granules
	early   early

	unreadable atomic.Int32 // frames that could not be read before they are written

	blank    sync.Once // blankEnds before the first change
	blankErr error
	changed  bool // set by blank
	head     end
	tail     end

	workers  *alignedBuffers // one for each worker
	packed   *alignedBuffers // go from fetchers to workers and back
	held     *alignedBuffers // the contents of head and tail
	readers  *alignedBuffers // for whoever reads the target
	reading  chan []byte     // those of readers that are free
	zero     *alignedBuffers // one, never written to
	progress *meter
	report   Report
}

// run goes through the phases. Buffers outlive all goroutines of a phase,
// since each phase waits for its own.
func (w *write) run(ctx context.Context) (err error) {
	if err := w.admit(ctx); err != nil {
		return err
	}
	if err := w.allocate(); err != nil {
		return errors.Join(err, w.release())
	}
	defer func() { err = errors.Join(err, w.release()) }()

	if w.plan.Resume || w.plan.Reuse {
		if err := w.timed(PhaseCheck, ctx, w.sample); err != nil {
			return err
		}
	}
	if err := w.timed(PhaseWrite, ctx, w.transfer); err != nil {
		return err
	}
	if err := w.timed(PhaseFlush, ctx, w.finish); err != nil {
		return err
	}
	if err := w.timed(PhaseVerify, ctx, w.verify); err != nil {
		return errors.Join(err, w.disown(err))
	}
	w.progress.phase(PhaseDone)
	return nil
}

func (w *write) allocate() (err error) {
	frame := int(w.m.FrameSizeBytes)
	if w.workers, err = newAlignedBuffers(w.plan.Workers, frame, codec.Headroom); err != nil {
		return err
	}
	if w.packed, err = newAlignedBuffers(w.plan.packedBuffers, int(manifest.MaxPacked(w.m.FrameSizeBytes)), 0); err != nil {
		return err
	}
	if err = w.allocateEnds(); err != nil {
		return err
	}
	if w.readers, err = newAlignedBuffers(w.plan.Workers, frame, 0); err != nil {
		return err
	}
	w.reading = make(chan []byte, w.plan.Workers)
	for _, buf := range w.readers.each {
		w.reading <- buf
	}
	w.settled = make([]bool, len(w.m.Frames))
	w.zero, err = newAlignedBuffers(1, zeroChunk, 0)
	return err
}

func (w *write) release() error {
	var errs []error
	for _, b := range []*alignedBuffers{w.workers, w.packed, w.held, w.readers, w.zero} {
		if b != nil {
			errs = append(errs, b.release())
		}
	}
	return errors.Join(errs...)
}

// admit refuses before anything is changed.
func (w *write) admit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.m.Validate(); err != nil {
		return err
	}
	if w.m.Kind != manifest.KindDisk {
		return fmt.Errorf("an image of kind %q is no disk", w.m.Kind)
	}
	return w.each(func(m member) error {
		if size := int64(w.m.SizeBytes); size > m.Size() {
			return &SizeError{ImageBytes: size, TargetBytes: m.Size()}
		}
		if int(w.m.SectorSize) != m.SectorSize() {
			return &SectorSizeError{Image: int(w.m.SectorSize), Target: m.SectorSize()}
		}
		return nil
	})
}

func (w *write) timed(phase Phase, ctx context.Context, do func(context.Context) error) error {
	w.progress.phase(phase)
	start := w.plan.Now()
	err := do(ctx)
	elapsed := w.plan.Now().Sub(start)
	switch phase {
	case PhaseCheck:
		w.report.CheckTime = elapsed
	case PhaseWrite:
		w.report.WriteTime = elapsed
	case PhaseFlush:
		w.report.FlushTime = elapsed
		w.report.Flushed = err == nil
	case PhaseVerify:
		w.report.VerifyTime = elapsed
		all := w.plan.ReadBackPercent == 100
		w.report.Verified, w.report.Sampled = err == nil && all, err == nil && !all
	}
	return err
}

func (w *write) flush() error {
	return w.each(func(m member) error {
		if err := m.Flush(); err != nil {
			return &SectorError{Op: "flush", LBA: -1, SectorSize: m.SectorSize(), Err: err}
		}
		return nil
	})
}

func (w *write) dropCache() error {
	return w.each(func(m member) error { return m.DropCache() })
}
