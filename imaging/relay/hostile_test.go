package relay

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hostile answers one request of a member for frames as it likes.
type hostile struct {
	img         image
	first, last int
	w           http.ResponseWriter
	r           *http.Request
}

func (h hostile) flush() { _ = http.NewResponseController(h.w).Flush() }

func (h hostile) record(r record) { _, _ = h.w.Write(r.append(nil)); h.flush() }

// packed is the first frame that was asked for.
func (h hostile) packed() []byte {
	f := h.img.m.Frames[h.first]
	return h.img.packed[f.Offset:][:f.PackedSize]
}

// frames sends what was asked for, as change makes it.
func (h hostile) frames(change func(frame int, head record, packed []byte) (record, []byte)) {
	for i := h.first; i <= h.last; i++ {
		f := h.img.m.Frames[i]
		if f.Zero {
			continue
		}
		head, packed := change(i, record{kind: kindFrame, frame: i, position: h.img.m.PackedSizeBytes},
			bytes.Clone(h.img.packed[f.Offset:][:f.PackedSize]))
		h.record(head)
		_, _ = h.w.Write(packed)
	}
}

// hostilePeer serves answer to a member, as machine "evil".
func hostilePeer(t *testing.T, img image, answer func(hostile)) Peer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _ := strconv.Atoi(r.URL.Query().Get("first"))
		last, _ := strconv.Atoi(r.URL.Query().Get("last"))
		answer(hostile{img, first, last, w, r})
	}))
	t.Cleanup(server.Close)
	return Peer{MachineID: "evil", URLs: []string{server.URL}}
}

func TestHostilePeers(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	for name, test := range map[string]struct {
		answer  func(hostile)
		failure Failure
		limit   time.Duration
	}{
		"wrong bytes": {func(h hostile) {
			h.frames(func(_ int, r record, p []byte) (record, []byte) { p[len(p)/2] ^= 1; return r, p })
		}, FailureGarbage, time.Second},
		"another frame": {func(h hostile) {
			h.frames(func(_ int, r record, p []byte) (record, []byte) { r.frame++; return r, p })
		}, FailureGarbage, time.Second},
		"no records": {func(h hostile) {
			_, _ = h.w.Write([]byte(strings.Repeat("all your frames ", 10000)))
		}, FailureGarbage, time.Second},
		"more than was asked for": {func(h hostile) {
			h.frames(func(i int, r record, p []byte) (record, []byte) {
				if i == h.last {
					p = append(p, make([]byte, 1<<20)...)
				}
				return r, p
			})
		}, FailureGarbage, time.Second},
		"has it and makes us wait": {func(h hostile) {
			h.record(record{kind: kindWait, frame: h.first, position: h.img.m.PackedSizeBytes})
			<-h.r.Context().Done()
		}, FailureGarbage, time.Second},
		"another status": {func(h hostile) { http.Error(h.w, "boo", http.StatusInternalServerError) }, FailureGarbage, time.Second},
		"a redirect": {func(h hostile) {
			http.Redirect(h.w, h.r, "http://169.254.169.254/secrets", http.StatusTemporaryRedirect)
		}, FailureGarbage, time.Second},
		"forbidden": {func(h hostile) { http.Error(h.w, "no", http.StatusForbidden) }, FailureRefused, time.Second},
		"busy":      {func(h hostile) { http.Error(h.w, "no", http.StatusTooManyRequests) }, FailureBusy, time.Second},
		"endless headers": {func(h hostile) {
			h.w.Header().Set("Filler", base64.StdEncoding.EncodeToString(make([]byte, 1<<20)))
			h.flush()
		}, FailureUnreachable, time.Second},
		"no answer": {func(h hostile) { <-h.r.Context().Done() }, FailureStalled, 3 * time.Second},
		"no record": {func(h hostile) { h.flush(); <-h.r.Context().Done() }, FailureStalled, 3 * time.Second},
		"half a frame": {func(h hostile) {
			h.record(record{kind: kindFrame, frame: h.first})
			_, _ = h.w.Write(h.packed()[:10000])
			h.flush()
			<-h.r.Context().Done()
		}, FailureStalled, 3 * time.Second},
		"a broken connection": {func(h hostile) {
			h.record(record{kind: kindFrame, frame: h.first})
			_, _ = h.w.Write(h.packed()[:10000])
			h.flush()
			panic(http.ErrAbortHandler)
		}, FailureUnreachable, time.Second},
		"a byte at a time": {func(h hostile) {
			h.record(record{kind: kindFrame, frame: h.first})
			for _, b := range h.packed() {
				if _, err := h.w.Write([]byte{b}); err != nil {
					return
				}
				h.flush()
				pause(h.r, 20*time.Millisecond)
			}
		}, FailureStalled, 6 * time.Second},
		"always about to have it": {func(h hostile) {
			for at := uint64(0); h.r.Context().Err() == nil; at++ {
				h.record(record{kind: kindWait, frame: h.first, position: min(at, h.img.m.Frames[h.first].Offset)})
				pause(h.r, 20*time.Millisecond)
			}
		}, FailureLate, 6 * time.Second},
		"leaves":           {func(h hostile) { h.record(record{kind: kindEnd, reason: endLeaving, frame: h.first}) }, FailureLeaving, time.Second},
		"never has it":     {func(h hostile) { h.record(record{kind: kindEnd, reason: endGone, frame: h.first}) }, FailureGone, time.Second},
		"ends at once":     {func(h hostile) { h.flush() }, FailureGone, time.Second},
		"an unknown cause": {func(h hostile) { h.record(record{kind: kindEnd, reason: 'X', frame: h.first}) }, FailureGarbage, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMember(t, img, "victim", func(o *Options) { o.Patience = 2 * time.Second })
			m.SetUpstream(hostilePeer(t, img, test.answer))
			start := time.Now()
			if err := m.write(deadline(t)); err != nil {
				t.Fatal(err)
			}
			m.check()
			s := m.State()
			if s.Failure != test.failure || s.FailedUpstream != "evil" {
				t.Errorf("got %q of %q, want %q of evil", s.Failure, s.FailedUpstream, test.failure)
			}
			// The machine that tests run on has other things to do too.
			if took, most := time.Since(start), test.limit+3*time.Second; took > most {
				t.Errorf("took %v, want at most %v", took, most)
			}
			// Two connections may have a frame each in their hands, and one more
			// each before they hear of it.
			if got := m.refetch.Load(); got > 4 {
				t.Errorf("%d frames were fetched again", got)
			}
		})
	}
}

// A peer that gave frames well, and from then on says that it comes forward, earns
// time by that, but not for ever.
func TestComingForwardIsNotEnough(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	m := newMember(t, img, "victim", func(o *Options) { o.Patience = 200 * time.Millisecond })
	m.SetUpstream(hostilePeer(t, img, func(h hostile) {
		if h.first < 50 {
			h.frames(func(_ int, r record, p []byte) (record, []byte) { r.position = 0; return r, p })
			return
		}
		for at := uint64(0); h.r.Context().Err() == nil; at += 2500 {
			h.record(record{kind: kindWait, frame: h.first, position: min(at, img.m.Frames[h.first].Offset)})
			pause(h.r, 20*time.Millisecond)
		}
	}))
	start := time.Now()
	if err := m.write(deadline(t)); err != nil {
		t.Fatal(err)
	}
	m.check()
	if s := m.State(); s.Failure != FailureLate {
		t.Errorf("got %q, want %q", s.Failure, FailureLate)
	}
	if took, most := time.Since(start), 6*time.Second; took > most {
		t.Errorf("took %v, want at most %v", took, most)
	}
}

func pause(r *http.Request, d time.Duration) {
	select {
	case <-r.Context().Done():
	case <-time.After(d):
	}
}

// Who sent garbage is not asked again, whatever the controller says; who only
// stopped is.
func TestGarbageIsNotForgiven(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	var asked atomic.Int32
	peer := hostilePeer(t, img, func(h hostile) { asked.Add(1); http.Error(h.w, "boo", http.StatusTeapot) })
	m := newMember(t, img, "victim")
	m.SetUpstream(peer)
	m.onFrame = func(int) { m.SetUpstream(peer) }
	if err := m.write(deadline(t)); err != nil {
		t.Fatal(err)
	}
	m.check()
	if asked := asked.Load(); asked > 2 { // two connections at the same time
		t.Errorf("asked %d times, want once or twice", asked)
	}
	if s := m.State(); s.Failure != FailureGarbage || s.Upstream != "" {
		t.Errorf("got state %+v, want garbage and no upstream", s)
	}
}
