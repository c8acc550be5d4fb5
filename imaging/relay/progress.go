package relay

import (
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// forgetAfter is after how many further frames one is taken for unwanted that
// was handed out and never came back by Put. The writer reads over small frames
// that its disk has already; it holds far fewer than this in the air.
const forgetAfter = 128

// skipAfter is how long frames may still be asked for after later ones were:
// the writer's connections begin their ranges in nearly the right order. Longer,
// and they are taken for those that its disk has already.
const skipAfter = time.Second

// progress knows what has been asked for, handed out and verified; Node.mu
// guards it.
type progress struct {
	m        *manifest.Manifest
	have     []uint64           // bit i: frame i was verified
	open     map[*ranged]bool   // ranges that are being read
	handed   map[int]handedOver // read by the writer, not verified yet
	suspects map[int]bool       // hashed wrong, to come from the floor
	skipped  []skip             // passed over of late
	puts     int64
	done     bool   // nothing more will be asked for
	next     int    // frame after the last one that was asked for
	high     uint64 // end of what was asked for, in the packed file
	now      func() time.Time
}

// skip is a stretch of frames that were passed over, [first, next).
type skip struct {
	first, next int
	at          time.Time
}

type handedOver struct {
	from string // the peer that gave at least a part; empty: the floor
	puts int64  // count at that time
}

func newProgress(m *manifest.Manifest, now func() time.Time) progress {
	return progress{m: m, now: now, have: make([]uint64, (len(m.Frames)+63)/64),
		open: map[*ranged]bool{}, handed: map[int]handedOver{}, suspects: map[int]bool{}}
}

func (p *progress) begin(r *ranged) {
	p.open[r] = true
	p.high = max(p.high, uint64(r.end))
	if len(r.frames) == 0 {
		return
	}
	first, next := r.frames[0], r.frames[len(r.frames)-1]+1
	var left []skip
	for _, s := range p.skipped {
		for _, part := range []skip{{s.first, min(first, s.next), s.at}, {max(next, s.first), s.next, s.at}} {
			if part.first = p.data(part.first); part.first < part.next && p.now().Sub(s.at) < skipAfter {
				left = append(left, part)
			}
		}
	}
	if passed := p.data(p.next); passed < first {
		left = append(left, skip{passed, first, p.now()})
	}
	p.skipped, p.next = left, max(p.next, next)
}

// data is the first frame from frame i on that is no hole.
func (p *progress) data(i int) int {
	for i < len(p.m.Frames) && p.m.Frames[i].Zero {
		i++
	}
	return i
}

func (p *progress) end(r *ranged) { delete(p.open, r) }

func (p *progress) hand(frame int, from string) {
	p.handed[frame] = handedOver{from, p.puts}
}

// suspect gives the peer that a frame with a wrong hash came from, if it was one.
func (p *progress) suspect(frame int) string {
	p.suspects[frame] = true
	return p.handed[frame].from
}

func (p *progress) put(frame int) {
	p.have[frame/64] |= 1 << (frame % 64)
	delete(p.handed, frame)
	delete(p.suspects, frame)
	p.puts++
	if p.puts%forgetAfter != 0 {
		return
	}
	for i, h := range p.handed {
		if p.puts-h.puts >= forgetAfter {
			delete(p.handed, i)
		}
	}
}

func (p *progress) had(frame int) bool { return p.have[frame/64]&(1<<(frame%64)) != 0 }

// position is the offset in the packed file before which nothing is missing.
func (p *progress) position() uint64 {
	if p.done {
		return p.m.PackedSizeBytes
	}
	at := p.high
	for r := range p.open {
		if r.next < len(r.frames) {
			at = min(at, p.m.Frames[r.frames[r.next]].Offset)
		}
	}
	for i := range p.handed {
		at = min(at, p.m.Frames[i].Offset)
	}
	for _, s := range p.skipped {
		if p.now().Sub(s.at) < skipAfter {
			at = min(at, p.m.Frames[s.first].Offset)
		}
	}
	return at
}
