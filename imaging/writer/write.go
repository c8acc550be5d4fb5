package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Write puts the image on the target and proves that it is there. The
// manifest must have come from manifest.Parse, so that its sums are known to
// add up. It returns when all goroutines have ended, on success with
// Report.Verified (or Sampled, if that was ordered), otherwise with what was done up to then and one of
// *SizeError, *SectorSizeError, *SourceError, *HashError, *SectorError, or the
// context's error.
//
// src may be nil if Resume will find everything in place (to verify alone).
func Write(ctx context.Context, target Target, m *manifest.Manifest, src Source, opts Options) (Report, error) {
	w := &write{target: target, m: m, src: src, plan: opts.plan(m)}
	w.progress = newMeter(w.plan, int64(m.SizeBytes))
	err := w.run(ctx)
	report := w.report
	w.progress.fill(&report)
	if err != nil {
		return report, fmt.Errorf("write image: %w", err)
	}
	return report, nil
}

type write struct {
	target Target
	m      *manifest.Manifest
	src    Source
	plan   plan
	kept   []bool // frame i is on the target already; nil without Resume

	buffers  *alignedBuffers // one for each worker
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
	if w.buffers, err = newAlignedBuffers(w.plan.Workers, int(w.m.FrameSizeBytes), codec.Headroom); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.buffers.release()) }()
	if w.zero, err = newAlignedBuffers(1, zeroChunk, 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.zero.release()) }()

	if w.plan.Resume {
		if err := w.timed(PhaseCheck, ctx, w.check); err != nil {
			return err
		}
	}
	if err := w.timed(PhaseWrite, ctx, w.transfer); err != nil {
		return err
	}
	if err := w.timed(PhaseFlush, ctx, w.flush); err != nil {
		return err
	}
	if err := w.timed(PhaseVerify, ctx, w.verify); err != nil {
		return err
	}
	w.progress.phase(PhaseDone)
	return nil
}

// admit refuses before anything is changed.
func (w *write) admit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.m.Validate(); err != nil {
		return err
	}
	if size := int64(w.m.SizeBytes); size > w.target.Size() {
		return &SizeError{ImageBytes: size, TargetBytes: w.target.Size()}
	}
	if w.m.Kind == manifest.KindDisk && int(w.m.SectorSize) != w.target.SectorSize() {
		return &SectorSizeError{Image: int(w.m.SectorSize), Target: w.target.SectorSize()}
	}
	if w.m.Kind != manifest.KindDisk {
		return fmt.Errorf("an image of kind %q is no disk", w.m.Kind)
	}
	return nil
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

func (w *write) flush(context.Context) error {
	if err := w.target.Flush(); err != nil {
		return &SectorError{Op: "flush", LBA: -1, SectorSize: w.target.SectorSize(), Err: err}
	}
	return nil
}
