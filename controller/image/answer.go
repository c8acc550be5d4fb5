package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/image/egress"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// content is what an answer is made of: an *os.File, which the kernel can send
// by itself, one that is still arriving, or bytes in memory.
type content interface {
	io.ReadSeekCloser
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// content opens a part of an image, here or while it arrives.
func (h *Handler) content(ctx context.Context, d manifest.Digest, part string, r Reader) (content, error) {
	c, err := h.store.content(d, part)
	// A controller that asks is never answered by asking another: two of them
	// could wait for each other.
	if h.c.Puller == nil || r.Controller != "" || !errors.Is(err, ErrNotFound) {
		return c, err
	}
	return h.c.Puller.content(ctx, d, part)
}

func (s *Store) content(d manifest.Digest, part string) (content, error) {
	if part == partManifest {
		data, err := s.ManifestBytes(d)
		return inMemory{bytes.NewReader(data)}, err
	}
	f, err := os.Open(filepath.Join(s.path(d), pack.FramesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	s.touch(d)
	return f, nil
}

const (
	// pieceLimited and pieceFree are how many bytes go out at a time, with a
	// limit of rates and without one.
	pieceLimited = 256 << 10
	pieceFree    = 1 << 20
	// stallMost is how long a peer may take to accept a piece: one that takes
	// less than 17 kB/s is cut, and asks again from where it stands.
	stallMost = time.Minute
)

// flow is an answer on its way: it goes out in pieces, and before each of them
// the rates, the order and the peer's pace are looked at. It keeps ReadFrom, by
// which net/http lets the kernel send files from the page cache.
type flow struct {
	http.ResponseWriter
	ctx   context.Context
	plain bool
	gate  *egress.Gate
	flow  egress.Flow
	still func(context.Context) error // nil: no need to ask
	stall time.Duration

	status   int
	bytes    int64
	sendfile int64
}

// begin lifts the server's limits for short requests, and end restores what the
// next request on the connection expects. Not every writer has deadlines
// (recorders of tests do not); then there are none.
func (w *flow) begin() {
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Time{})
	w.extend()
}

func (w *flow) end() {
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.Flush()
	_ = rc.SetWriteDeadline(time.Time{})
}

func (w *flow) extend() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.stall))
}

func (w *flow) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *flow) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom is what http.ServeContent comes to, with an io.LimitedReader over the
// content. What goes to net/http is a LimitedReader over the *os.File itself:
// no other wrapping is known to the network poller.
func (w *flow) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	step := int64(pieceFree)
	if w.gate != nil {
		step = pieceLimited
	}
	var total int64
	for limited.N > 0 {
		want := min(limited.N, step)
		from, want, err := w.source(limited.R, want)
		if err == nil {
			err = w.before(want)
		}
		if err != nil {
			return total, err
		}
		n, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: from, N: want})
		total += n
		limited.N -= n
		w.bytes += n
		if _, isFile := from.(*os.File); isFile && w.plain {
			w.sendfile += n
		}
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// source waits until bytes have arrived, and says from where and how many.
func (w *flow) source(r io.Reader, want int64) (io.Reader, int64, error) {
	a, ok := r.(*arrivingFile)
	if !ok {
		return r, want, nil
	}
	n, err := a.await(w.ctx, want)
	return a.File, n, err
}

func (w *flow) before(bytes int64) error {
	if w.still != nil {
		if err := w.still(w.ctx); err != nil {
			return err
		}
	}
	if w.gate != nil {
		if err := w.gate.Wait(w.ctx, w.flow, bytes); err != nil {
			return err
		}
	}
	w.extend()
	return nil
}

func (w *flow) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// slots bound what is under way, in all and for each name.
type slots struct {
	most, mostOfOne int

	mu  sync.Mutex // guards the fields below
	all int
	of  map[string]int
}

func newSlots(most, mostOfOne int) *slots {
	return &slots{most: most, mostOfOne: mostOfOne, of: map[string]int{}}
}

func (s *slots) take(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.of[name] >= s.mostOfOne {
		return false
	}
	s.all++
	s.of[name]++
	return true
}

func (s *slots) free(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[name]--; s.of[name] == 0 {
		delete(s.of, name)
	}
}
