package relay

import (
	"context"
	"errors"
	"io"
	"time"
)

// peerLeg is one answer of a peer, read frame by frame.
type peerLeg struct {
	n      *Node
	up     *upstream
	turn   uint64 // of the Node when it began
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels; runs only while something is waited for
	body   io.ReadCloser
	until  int           // in the range's frames: the first that was not asked for
	left   int           // bytes of the current frame still to come
	budget time.Duration // for these
	least  float64       // bytes a second below which the peer is left

	idle bool // waits between two frames; guarded by Node.mu
}

// newLeg is nil when up is no longer the upstream.
func (r *ranged) newLeg(up *upstream, turn uint64) *peerLeg {
	l := &peerLeg{n: r.n, up: up, turn: turn, idle: true, least: leastRate}
	if _, best, _ := r.n.meter.read(); best/slowest > leastRate {
		l.least = best / slowest
	}
	l.ctx, l.cancel = context.WithCancelCause(r.ctx)
	l.timer = time.AfterFunc(time.Hour, func() { l.cancel(errStalled) })
	l.timer.Stop()
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.n.turn != turn {
		l.cancel(nil)
		return nil
	}
	r.leg = l
	return l
}

// await reads records until the due frame begins.
func (l *peerLeg) await(due int) error {
	if !l.rest(true) {
		return errTurned
	}
	f := &l.n.m.Frames[due]
	for start := time.Now(); ; {
		var buf [recordBytes]byte
		var err error
		_, patient := l.up.client.wait(func() { err = l.fill(buf[:]) })
		if err != nil {
			return err
		}
		r, err := parseRecord(buf[:], due)
		if err != nil {
			return err
		}
		came := l.up.client.advanced(r.position)
		switch {
		case r.kind == kindEnd:
			return map[byte]error{endGone: errGone, endLate: errLate, endLeaving: errLeaving}[r.reason]
		case r.kind == kindWait && r.position > f.Offset:
			return errRecord // what lies before its position it has, or has had
		case r.kind == kindWait:
			l.up.client.earn(came, l.least)
			if !patient || time.Since(start) > maxPatience*l.up.client.patience {
				return errLate
			}
			continue
		}
		l.left = int(f.PackedSize)
		l.budget = l.up.client.stall + time.Duration(float64(f.PackedSize)/l.least*float64(time.Second))
		l.n.told(l, r.position)
		l.rest(false)
		return nil
	}
}

// rest notes whether the leg may be cancelled for another upstream; false when
// there is one already.
func (l *peerLeg) rest(idle bool) bool {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	l.idle = idle
	return l.turn == l.n.turn
}

// told notes how far the upstream says it is.
func (n *Node) told(l *peerLeg, position uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.turn == n.turn {
		n.ahead = min(position, n.m.PackedSizeBytes)
	}
}

// read gives bytes of the current frame.
func (l *peerLeg) read(p []byte) (int, error) {
	var n int
	var err error
	took, patient := l.up.client.wait(func() { n, err = l.some(p[:min(len(p), l.left)], min(l.up.client.stall, l.budget)) })
	l.left -= n
	l.budget -= took
	l.up.client.earn(int64(n), l.least)
	switch {
	case !patient, l.budget <= 0 && l.left > 0:
		return n, errSlow
	case l.left == 0:
		return n, nil // its end has to be a matter of the next record
	}
	return n, err
}

// skip reads over what the reader has from elsewhere.
func (l *peerLeg) skip(n int64) error {
	scratch := make([]byte, min(n, 64<<10))
	for n > 0 {
		got, err := l.read(scratch[:min(n, int64(len(scratch)))])
		n -= int64(got)
		if err != nil {
			return err
		}
	}
	return nil
}

// some is one read of the body that lasts no longer than limit.
func (l *peerLeg) some(p []byte, limit time.Duration) (int, error) {
	l.timer.Reset(limit)
	n, err := l.body.Read(p)
	l.timer.Stop()
	if err != nil {
		err = l.because(err)
	}
	return n, err
}

func (l *peerLeg) fill(p []byte) error {
	for len(p) > 0 {
		n, err := l.some(p, l.up.client.stall)
		if p = p[n:]; err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// finish reads the end of the answer, so that the connection can be used again.
func (l *peerLeg) finish() error {
	var more [1]byte
	l.timer.Reset(l.up.client.stall)
	n, err := l.body.Read(more[:])
	l.timer.Stop()
	switch {
	case n > 0:
		return errLonger
	case errors.Is(err, io.EOF):
		return nil
	}
	return l.because(err)
}

func (l *peerLeg) close() {
	l.timer.Stop()
	l.cancel(nil)
	if l.body != nil {
		_ = l.body.Close() // nothing more is wanted of it
	}
}
