package writer

import (
	"sync"
	"sync/atomic"
	"time"
)

// meter counts from all goroutines and calls back from one at a time.
type meter struct {
	call  func(Progress)
	now   func() time.Time
	total int64

	done, written, kept, zeroed, fetched, verified               atomic.Int64
	framesWritten, framesKept, holesZeroed, rewritten, refetched atomic.Int64

	mu      sync.Mutex // guards the fields below, and is held during call
	current Phase
	last    time.Time
}

const progressEvery = 100 * time.Millisecond

func newMeter(p plan, total int64) *meter {
	return &meter{call: p.Progress, now: p.Now, total: total}
}

func (m *meter) phase(phase Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = phase
	m.done.Store(0)
	if phase == PhaseDone {
		m.done.Store(m.total)
	}
	m.tell()
}

// advance counts n content bytes of the phase as handled.
func (m *meter) advance(n int64) {
	m.done.Add(n)
	if m.call == nil || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	if m.now().Sub(m.last) >= progressEvery {
		m.tell()
	}
}

func (m *meter) tell() {
	if m.call == nil {
		return
	}
	m.last = m.now()
	m.call(Progress{
		Phase: m.current, DoneBytes: m.done.Load(), TotalBytes: m.total,
		BytesWritten: m.written.Load(), BytesFetched: m.fetched.Load(),
	})
}

func (m *meter) fill(r *Report) {
	r.FramesWritten = int(m.framesWritten.Load())
	r.FramesKept = int(m.framesKept.Load())
	r.HolesZeroed = int(m.holesZeroed.Load())
	r.HolesRewritten = int(m.rewritten.Load())
	r.FramesRefetched = int(m.refetched.Load())
	r.BytesWritten = m.written.Load()
	r.BytesKept = m.kept.Load()
	r.BytesZeroed = m.zeroed.Load()
	r.BytesFetched = m.fetched.Load()
	r.BytesVerified = m.verified.Load()
}
