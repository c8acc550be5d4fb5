package relay

import (
	"sync"
	"time"
)

// window is what the meter looks at; it tells of one to two of them.
const window = time.Second

// meter measures what arrives, and whether the readers or their sources are
// what is waited for.
type meter struct {
	now func() time.Time

	mu       sync.Mutex // guards the fields below
	since    time.Time  // begin of the current window
	last     time.Time  // when the sums were brought up to date
	open     int        // ranges that are being read
	blocked  int        // of these, in a read from their source
	current  tally
	previous tally
	best     float64 // bytes a second of the best window
}

// tally is one window.
type tally struct {
	bytes   int64
	blocked time.Duration // sum over all readers
	open    time.Duration
	span    time.Duration
}

func newMeter(now func() time.Time) *meter {
	at := now()
	return &meter{now: now, since: at, last: at}
}

// count changes the numbers of readers, and adds bytes.
func (m *meter) count(open, blocked int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	m.open += open
	m.blocked += blocked
	m.current.bytes += bytes
}

// advance brings the sums up to date, and begins a new window when it is time.
// m.mu is held.
func (m *meter) advance() {
	now := m.now()
	if step := now.Sub(m.last); step > 0 {
		m.current.blocked += time.Duration(m.blocked) * step
		m.current.open += time.Duration(m.open) * step
		m.last = now
	}
	if m.current.span = now.Sub(m.since); m.current.span >= window {
		m.best = max(m.best, rateOf(m.current.bytes, m.current.span))
		m.previous, m.current, m.since = m.current, tally{}, now
	}
}

// read gives the rate of late and of the best window in bytes a second, and
// whether readers spent most of the time waiting for their source.
func (m *meter) read() (rate, best float64, hungry bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	span := m.previous.span + m.current.span
	open := m.previous.open + m.current.open
	blocked := m.previous.blocked + m.current.blocked
	return rateOf(m.previous.bytes+m.current.bytes, span), m.best, open > span/2 && blocked > open/2
}

func rateOf(bytes int64, span time.Duration) float64 {
	if span < window/4 {
		return 0
	}
	return float64(bytes) / span.Seconds()
}
