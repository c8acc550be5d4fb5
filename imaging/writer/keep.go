package writer

import (
	"context"
	"hash/maphash"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

const (
	// sampleFrames of an image with more than sampleFrom frames of data are
	// looked at before all are: when hardly any is right (less than one in
	// sampleRight), reading the whole disk would only cost time.
	sampleFrames = 32
	sampleFrom   = 256
	sampleRight  = 12
	// maxUnreadable frames are taken for sectors that writing may mend; a disk
	// with more is broken, and each may cost half a minute.
	maxUnreadable = 8
)

// sample decides whether the target is worth being read first. What it reads
// is read again later; that is less than one part in eight.
func (w *write) sample(ctx context.Context) error {
	if err := w.dropCache(); err != nil {
		return err
	}
	_, data := w.ordered()
	w.keep = true
	w.old = granules{seed: maphash.MakeSeed(), of: map[int][][]uint64{}}
	if len(data) < sampleFrom {
		return nil
	}
	var right atomic.Int64
	err := w.parallel(ctx, sampleFrames, func(n int) error {
		ok, err := w.look(data[n*len(data)/sampleFrames], nil)
		if ok {
			right.Add(1)
		}
		return err
	})
	w.keep = right.Load()*sampleRight >= sampleFrames
	return err
}

// parallel calls do for 0 to n-1, about in order.
func (w *write) parallel(ctx context.Context, n int, do func(n int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range w.plan.Workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// check settles frame i if it is right, and notes what is there instead if not.
func (w *write) check(ctx context.Context, i int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	var sums [][]uint64
	if !w.m.Frames[i].Zero {
		sums = make([][]uint64, len(w.members))
	}
	right, err := w.look(i, sums)
	switch {
	case right:
		w.settle(i)
	case err == nil && sums != nil:
		w.old.put(i, sums)
	}
	return right, err
}

// look tells whether frame i is on all members as it should be. If not, sums (if
// not nil) get what is there, by member; nil stays where that is unknown. A
// sector that cannot be read is no error here, since writing it may mend it,
// until there are too many.
//
// The content is somebody's choice (an earlier system's), hence SHA-256.
func (w *write) look(i int, sums [][]uint64) (bool, error) {
	buf := <-w.reading
	defer func() { w.reading <- buf }()
	f := &w.m.Frames[i]
	content := buf[:f.Size]
	right := 0
	for n, m := range w.members {
		if got, _ := m.ReadAt(content, w.m.FrameOffset(i)); got < len(content) {
			if w.unreadable.Add(1) <= maxUnreadable {
				continue
			}
			if err := readFull(m, content, w.m.FrameOffset(i)); err != nil {
				return false, m.explain(err)
			}
		}
		alike := w.matches(i, content)
		if alike && (f.Zero || manifest.Sum(content) == f.SHA256) {
			right++
		}
		if sums != nil && (!alike || len(w.members) > 1) {
			sums[n] = w.old.sums(content)
		}
	}
	return right == len(w.members), nil
}

// settle takes a frame for done that came from the medium just now, was right,
// and stays as it is.
func (w *write) settle(i int) {
	size := int64(w.m.Frames[i].Size)
	w.settled[i] = true
	w.progress.framesKept.Add(1)
	w.progress.kept.Add(size)
	w.progress.verified.Add(size)
	w.progress.advance(size)
}

// checkRuns reads ahead of the fetchers: of each stretch, what is not right on
// the target goes on to be fetched.
func (w *write) checkRuns(ctx context.Context, stretches []manifest.Run, todo chan<- manifest.Run) error {
	return w.parallel(ctx, len(stretches), func(n int) error {
		var wanted []int
		for _, i := range stretches[n].Frames {
			right, err := w.check(ctx, i)
			if err != nil {
				return err
			}
			if !right {
				wanted = append(wanted, i)
			}
		}
		return send(ctx, todo, w.m.Runs(wanted, w.plan.runs))
	})
}

func send(ctx context.Context, todo chan<- manifest.Run, runs []manifest.Run) error {
	for _, run := range runs {
		select {
		case todo <- run:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
