package relay

import (
	"context"
	"errors"
	"io"

	"github.com/ingot-metal/ingot/imaging/fetch"
)

// floorBytes is the most that is asked of the floor at once, unless a frame is
// larger. After each frame the upstream of the moment is looked at again, and the
// rest of the answer is given up for it: when many begin at once, or a chain has
// just been mended, it would come slowly, and all who read from here would wait.
const floorBytes = 2 << 20

// ranged reads one range, frame by frame, from wherever is best at the moment.
// It is used by one goroutine.
type ranged struct {
	n      *Node
	ctx    context.Context
	at     int64 // in the packed file
	end    int64
	frames []int // in the range
	closed bool
	err    error

	floor    io.ReadCloser // of the floor, up to floorEnd; nil: none
	floorEnd int64
	local    []byte // what is left of the current frame, which was kept; nil: it was not
	stay     bool   // on the floor: the upstream has moved past this range
	taint    string // peer that gave a part of the current frame

	// next in frames is the current one, leg an answer of a peer. Both are
	// written by the reader under Node.mu, and read by others under it.
	next int
	leg  *peerLeg
}

// Read is io.Reader's.
func (r *ranged) Read(p []byte) (int, error) {
	if r.closed {
		return 0, errors.New("read of a closed range")
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.n.meter.count(0, 1, 0)
	n, err := r.read(p)
	r.n.meter.count(0, -1, 0)
	return n, err
}

func (r *ranged) read(p []byte) (n int, err error) {
	for n == 0 && r.err == nil {
		if r.at >= r.end {
			return 0, io.EOF
		}
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		piece := p[:min(int64(len(p)), r.end-r.at)]
		switch {
		case r.floor != nil:
			n = r.readFloor(piece)
		case r.gap() > 0:
			n = int(min(r.gap(), int64(len(piece))))
			clear(piece[:n])
			r.advance(n, "")
		case r.local != nil:
			n = copy(piece, r.local)
			if r.local = r.local[n:]; len(r.local) == 0 {
				r.local = nil
			}
			r.advance(n, "")
		case r.leg != nil:
			n = r.readPeer(piece)
		default:
			r.choose()
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// gap is how many bytes there are before the next frame begins, or to the end.
func (r *ranged) gap() int64 {
	if r.next == len(r.frames) {
		return r.end - r.at
	}
	return int64(r.n.m.Frames[r.frames[r.next]].Offset) - r.at
}

// choose opens the source of the current frame.
func (r *ranged) choose() {
	frame := r.frames[r.next]
	if kept := r.n.isKept(frame); kept != nil {
		r.local = kept[r.at-int64(r.n.m.Frames[frame].Offset):]
		return
	}
	up, turn := r.n.current()
	if up == nil || r.stay || r.n.isSuspect(frame) {
		r.openFloor()
		return
	}
	l := r.newLeg(up, turn)
	if l == nil {
		return
	}
	for l.until = r.next + 1; l.until < len(r.frames) && r.n.isKept(r.frames[l.until]) == nil; {
		l.until++
	}
	if err := l.open(frame, r.frames[l.until-1]); err != nil {
		r.drop(err)
	}
}

func (r *ranged) openFloor() {
	end := r.frameEnd(r.next)
	for k := r.next + 1; k < len(r.frames) && r.frameEnd(k)-r.at <= floorBytes && r.n.isKept(r.frames[k]) == nil; k++ {
		end = r.frameEnd(k)
	}
	r.floorEnd = min(end, r.end)
	r.floor, r.err = r.n.floor.Range(r.ctx, r.at, r.floorEnd-r.at)
	if r.err != nil {
		r.floor = nil
	}
}

func (r *ranged) frameEnd(k int) int64 {
	f := &r.n.m.Frames[r.frames[k]]
	return int64(f.Offset) + int64(f.PackedSize)
}

func (r *ranged) readFloor(p []byte) int {
	n, err := r.floor.Read(p[:min(int64(len(p)), r.floorEnd-r.at)])
	r.n.fromFloor.Add(uint64(n))
	r.n.meter.count(0, 0, int64(n))
	r.advance(n, "")
	switch {
	case r.at == r.floorEnd || r.replaced():
		r.closeFloor()
	case errors.Is(err, io.EOF):
		r.err = io.ErrUnexpectedEOF
	case err != nil:
		r.err = err
	}
	return n
}

// replaced tells, between two frames, whether the next one may come from a peer.
func (r *ranged) replaced() bool {
	if r.stay || r.next == len(r.frames) || r.gap() < 0 || r.n.isSuspect(r.frames[r.next]) {
		return false
	}
	up, _ := r.n.current()
	return up != nil
}

func (r *ranged) closeFloor() {
	if r.floor != nil {
		_ = r.floor.Close() // all that was wanted is here
		r.floor = nil
	}
}

// readPeer reads of the current frame. What goes wrong is the peer's, and ends
// its leg; the next choice goes on where it broke off.
func (r *ranged) readPeer(p []byte) int {
	frame := r.frames[r.next]
	if r.leg.left == 0 {
		err := r.leg.await(frame)
		if err == nil {
			err = r.leg.skip(r.at - int64(r.n.m.Frames[frame].Offset))
		}
		if err != nil {
			r.drop(err)
			return 0
		}
	}
	l := r.leg
	n, err := l.read(p[:min(int64(len(p)), r.frameEnd(r.next)-r.at)])
	r.n.fromPeers.Add(uint64(n))
	r.n.meter.count(0, 0, int64(n))
	r.advance(n, l.up.peer.MachineID)
	if err == nil && r.next == l.until {
		if err = l.finish(); err == nil {
			r.unleg()
		}
	}
	if err != nil {
		r.drop(err)
	}
	return n
}

// drop ends the leg, and has its peer blamed unless it was ended from here.
func (r *ranged) drop(err error) {
	l := r.leg
	r.unleg()
	if errors.Is(err, errTurned) || r.ctx.Err() != nil {
		return
	}
	how := failureOf(err)
	if how == FailureGone {
		r.stay = true
	}
	r.n.lost(l, how, err)
}

func (r *ranged) unleg() {
	l := r.leg
	r.n.mu.Lock()
	r.leg = nil
	r.n.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// advance counts bytes that were handed to the reader, from a peer or the floor.
func (r *ranged) advance(n int, from string) {
	if n == 0 {
		return
	}
	r.at += int64(n)
	if from != "" {
		r.taint = from
	}
	if r.next == len(r.frames) || r.at < r.frameEnd(r.next) {
		return
	}
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	for r.next < len(r.frames) && r.at >= r.frameEnd(r.next) {
		r.n.progress.hand(r.frames[r.next], r.taint)
		r.taint = ""
		r.next++
	}
}

// Close is io.Closer's.
func (r *ranged) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.unleg()
	r.closeFloor()
	r.n.mu.Lock()
	r.n.progress.end(r)
	r.n.mu.Unlock()
	r.n.meter.count(-1, 0, 0)
	return nil
}

func (n *Node) isSuspect(frame int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.progress.suspects[frame]
}

var _ fetch.Suspecter = (*Node)(nil)
