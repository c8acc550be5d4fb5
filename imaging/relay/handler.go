package relay

import (
	"context"
	"net/http"
	"sort"
	"time"
)

const (
	// pieceBytes is the most that is copied out of the ring and sent at once,
	// leastPiece what it comes down to where the rate is bounded, so that a peer
	// is not silent for long.
	pieceBytes = 64 << 10
	leastPiece = 4 << 10
	// pieceLimit is how long a peer may take for it.
	pieceLimit = 10 * time.Second
	// waitLimit is how long a request waits for one frame.
	waitLimit = 30 * time.Second
)

// serveHTTP answers members with frames, and everybody else alike.
func (n *Node) serveHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := parseAsk(r)
	if err != nil || !n.admits(a) || !n.named(r, a.reader) {
		w.Header().Set("Connection", "close")
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	if a.last >= len(n.m.Frames) {
		http.Error(w, "no such frames", http.StatusBadRequest)
		return
	}
	if !n.serves.enter(a.reader) {
		http.Error(w, "busy", http.StatusTooManyRequests)
		return
	}
	defer n.serves.leave(a.reader, n.opts.Now)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	s := sender{n: n, w: w, rc: http.NewResponseController(w), ctx: r.Context(), piece: make([]byte, 0, n.serves.limit.Burst())}
	first := sort.SearchInts(n.data, a.first)
	for _, i := range n.data[first:] {
		if i > a.last || !s.send(i) {
			return
		}
	}
}

// named tells whether the certificate, where there has to be one, is the
// reader's.
func (n *Node) named(r *http.Request, reader string) bool {
	if n.opts.TLS == nil {
		return true
	}
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Subject.CommonName == reader
}

// sender sends frames to one peer.
type sender struct {
	n     *Node
	w     http.ResponseWriter
	rc    *http.ResponseController
	ctx   context.Context
	piece []byte
}

// send waits for the frame and sends it; false ends the answer.
func (s *sender) send(frame int) bool {
	start := s.n.opts.Now()
	for {
		fresh := s.n.serves.fresh()
		there, reason, position := s.n.find(frame)
		switch {
		case there:
			return s.frame(frame, position)
		case reason == 0 && s.n.opts.Now().Sub(start) > waitLimit:
			reason = endLate
		}
		if reason != 0 {
			s.tell(record{kind: kindEnd, reason: reason, frame: frame, position: position})
			return false
		}
		if !s.tell(record{kind: kindWait, frame: frame, position: position}) || !s.wait(fresh, frame) {
			return false
		}
	}
}

// wait returns when the frame may be there, or a sign of life is due.
func (s *sender) wait(fresh <-chan struct{}, frame int) bool {
	timer := time.NewTimer(waitEvery)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return false
		case <-s.n.closing:
			return true
		case <-timer.C:
			return true
		case <-fresh:
		}
		fresh = s.n.serves.fresh()
		if there, reason, _ := s.n.find(frame); there || reason != 0 {
			return true
		}
	}
}

// find tells whether a frame can be sent, or why it never will be (0: it may
// come), and how far this machine is.
func (n *Node) find(frame int) (there bool, reason byte, position uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	position = n.progress.position()
	switch {
	case n.closed:
		return false, endLeaving, position
	case n.kept[frame] != nil || n.ring.has(frame):
		return true, 0, position
	case n.progress.done || n.progress.had(frame) || n.m.Frames[frame].Offset < position:
		return false, endGone, position
	}
	return false, 0, position
}

// frame sends a frame in pieces, each copied out of the ring at its time. If
// the ring moves on meanwhile the answer ends there.
func (s *sender) frame(frame int, position uint64) bool {
	head := record{kind: kindFrame, frame: frame, position: position}.append(s.piece[:0])
	size := int(s.n.m.Frames[frame].PackedSize)
	kept := s.n.isKept(frame)
	for at := 0; at < size; {
		buf := s.piece[:cap(s.piece)]
		headed := copy(buf, head)
		head = nil
		n := copy(buf[headed:], kept[min(at, len(kept)):])
		if kept == nil {
			n = s.n.ring.read(frame, at, buf[headed:])
		}
		if n == 0 {
			return false
		}
		if s.n.serves.limit.WaitN(s.ctx, n) != nil || !s.write(buf[:headed+n]) {
			return false
		}
		at += n
		s.n.toPeers.Add(uint64(n))
	}
	return s.rc.Flush() == nil
}

func (s *sender) tell(r record) bool {
	return s.write(r.append(s.piece[:0])) && s.rc.Flush() == nil
}

func (s *sender) write(p []byte) bool {
	// Not every ResponseWriter has deadlines; those of a real server do.
	_ = s.rc.SetWriteDeadline(time.Now().Add(pieceLimit))
	_, err := s.w.Write(p)
	return err == nil
}
