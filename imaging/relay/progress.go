package relay

import "github.com/ingot-metal/ingot/imaging/manifest"

// forgetAfter is after how many further frames one is taken for unwanted that
// was handed out and never came back by Put. The writer reads over small frames
// that its disk has already; it holds far fewer than this in the air.
const forgetAfter = 128

// progress knows what has been asked for, handed out and verified; Node.mu
// guards it.
type progress struct {
	m        *manifest.Manifest
	have     []uint64           // bit i: frame i was verified
	open     map[*ranged]bool   // ranges that are being read
	handed   map[int]handedOver // read by the writer, not verified yet
	suspects map[int]bool       // hashed wrong, to come from the floor
	puts     int64
	high     uint64 // end of what was asked for, in the packed file
}

type handedOver struct {
	from string // the peer that gave at least a part; empty: the floor
	puts int64  // count at that time
}

func newProgress(m *manifest.Manifest) progress {
	return progress{m: m, have: make([]uint64, (len(m.Frames)+63)/64),
		open: map[*ranged]bool{}, handed: map[int]handedOver{}, suspects: map[int]bool{}}
}

func (p *progress) begin(r *ranged) {
	p.open[r] = true
	p.high = max(p.high, uint64(r.end))
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
	at := p.high
	for r := range p.open {
		if r.next < len(r.frames) {
			at = min(at, p.m.Frames[r.frames[r.next]].Offset)
		}
	}
	for i := range p.handed {
		at = min(at, p.m.Frames[i].Offset)
	}
	return at
}
