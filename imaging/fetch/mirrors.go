package fetch

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Mirrors reads from the first of several equal sources, and moves on to the
// next when that one fails or delivers what it should not. A source that
// failed for good, or was suspected three times, is left out while others remain.
type Mirrors struct {
	sources []Source

	mu      sync.Mutex // guards the fields below
	current int
	strikes []int // suspicions; left out from maxStrikes on
	served  [64]servedRange
	next    int // slot of served to overwrite
}

// servedRange remembers who answered for a range, for Suspect.
type servedRange struct {
	offset, length int64
	index          int
}

const maxStrikes = 3

// NewMirrors needs at least one source.
func NewMirrors(sources ...Source) *Mirrors {
	return &Mirrors{sources: sources, strikes: make([]int, len(sources))}
}

// Range is Source's. It asks every source at most once; the error is permanent
// only if every source's was.
func (m *Mirrors) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	var temporary, last error
	for _, i := range m.order() {
		body, err := m.sources[i].Range(ctx, offset, length)
		if err == nil {
			m.remember(servedRange{offset, length, i})
			return &mirrorBody{ReadCloser: body, m: m, index: i}, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		m.failed(i, Permanent(err))
		last = err
		if !Permanent(err) {
			temporary = err
		}
	}
	if temporary != nil {
		return nil, temporary
	}
	if last == nil {
		last = &Error{Source: "no source", Offset: offset, Length: length, Permanent: true, Err: errors.New("there is nowhere to fetch from")}
	}
	return nil, last
}

// order starts at the current source. Those left out are asked only when nobody
// else remains, so that a single bad mirror still ends in its own error.
func (m *Mirrors) order() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var good, out []int
	for n := range m.sources {
		i := (m.current + n) % len(m.sources)
		if m.strikes[i] < maxStrikes {
			good = append(good, i)
		} else {
			out = append(out, i)
		}
	}
	if len(good) > 0 {
		return good
	}
	return out
}

// failed moves on, unless somebody else did already.
func (m *Mirrors) failed(i int, forGood bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if forGood {
		m.strikes[i] = maxStrikes
	}
	if m.current == i {
		m.current = (i + 1) % len(m.sources)
	}
}

func (m *Mirrors) remember(r servedRange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served[m.next] = r
	m.next = (m.next + 1) % len(m.served)
}

// Suspect is Suspecter's: one strike for whoever served these bytes last, and
// the next range is asked of somebody else.
func (m *Mirrors) Suspect(offset, length int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	culprit := m.current
	for n := range m.served {
		r := m.served[(m.next-1-n+2*len(m.served))%len(m.served)]
		if r.offset <= offset && offset < r.offset+r.length {
			culprit = r.index
			break
		}
	}
	m.strikes[culprit]++
	if m.current == culprit {
		m.current = (culprit + 1) % len(m.sources)
	}
}

type mirrorBody struct {
	io.ReadCloser
	m     *Mirrors
	index int
}

func (b *mirrorBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.m.failed(b.index, Permanent(err))
	}
	return n, err
}
