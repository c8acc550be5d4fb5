package writer

import (
	"context"
	"sync"
	"time"
)

// earlyBytes of frames are written, and flushed, before those of the stretch
// before them are read back beside the writing: by then a drive's cache has had
// other things to hold. It is done only while workers mostly wait for frames.
// Where they wait for the disk instead, reading would make it slower still, most
// of all one that has to move a head; and where the processors are full, reading
// back later takes no longer.
const earlyBytes = 256 << 20

// early collects what was written, in the order it was.
type early struct {
	mu     sync.Mutex // guards the fields below
	frames []int
	bytes  int64
	since  time.Time     // when this stretch began
	idle   time.Duration // all workers' time without a frame since then

	enough chan struct{} // signalled when a stretch is full
}

// note adds a frame that was written, and how long a worker waited for it.
func (w *write) note(frame int, waited time.Duration) {
	e := &w.early
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle += waited
	e.frames = append(e.frames, frame)
	e.bytes += int64(w.m.Frames[frame].Size)
	if e.bytes >= w.plan.earlyBytes {
		select {
		case e.enough <- struct{}{}:
		default:
		}
	}
}

// next begins a stretch, and gives the one that has ended, with whether workers
// mostly waited for it.
func (w *write) next() (frames []int, slack bool) {
	e := &w.early
	now := w.plan.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	slack = e.idle*2 > now.Sub(e.since)*time.Duration(w.plan.Workers)
	frames, e.frames, e.bytes, e.since, e.idle = e.frames, nil, 0, now, 0
	return frames, slack
}

// readBackEarly settles what can be while frames are still being written, until
// done is closed. Whatever it does not get to is left to verify.
func (w *write) readBackEarly(ctx context.Context, done <-chan struct{}) error {
	if w.plan.ReadBackPercent < 100 {
		return nil
	}
	var waiting []int // flushed, and not read back yet
	for {
		select {
		case <-w.early.enough:
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		frames, slack := w.next()
		if !slack {
			continue
		}
		if err := w.flush(); err != nil {
			return err
		}
		if err := w.dropCache(); err != nil {
			return err
		}
		for _, i := range waiting {
			select {
			case <-done:
				return nil
			default:
			}
			if _, err := w.readBack(i); err != nil {
				return err
			}
			w.settled[i] = true
		}
		waiting = frames
	}
}
