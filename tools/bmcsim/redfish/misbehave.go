package redfish

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// misbehave applies the faults that need no look at the resource. It returns
// false when it answered, or kept silent, itself.
func (s *Server) misbehave(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool) {
	f := s.m.Faults().Get()
	switch {
	case f.RedfishHang:
		// Read the body, so that the server notices when the client goes.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody))
		<-r.Context().Done()
		return w, false
	case f.RedirectTo != "":
		w.Header().Set("Location", f.RedirectTo+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
		return w, false
	case s.isDown():
		w.Header().Set("Retry-After", "1")
		s.fail(w, http.StatusServiceUnavailable, "Base.1.8.ServiceTemporarilyUnavailable", "The BMC is starting.")
		return w, false
	}
	if f.GiantAnswer > 0 {
		return &giant{ResponseWriter: w, r: r, size: f.GiantAnswer}, true
	}
	if f.ByteInterval > 0 {
		return &trickle{ResponseWriter: w, r: r, every: f.ByteInterval}, true
	}
	return w, true
}

// goDown begins the 503s of the UnavailableFor fault.
func (s *Server) goDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.m.Faults().Get().UnavailableFor; d > 0 {
		s.downTill = time.Now().Add(d)
	}
}

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.downTill)
}

// giant pads an answer with white space, which is legal JSON, up to size.
type giant struct {
	http.ResponseWriter
	r    *http.Request
	size int64
}

func (g *giant) Write(b []byte) (int, error) {
	blank := make([]byte, 64<<10)
	for i := range blank {
		blank[i] = ' '
	}
	for left := g.size - int64(len(b)); left > 0; left -= int64(len(blank)) {
		if _, err := g.ResponseWriter.Write(blank[:min(left, int64(len(blank)))]); err != nil {
			return 0, err
		}
	}
	return g.ResponseWriter.Write(b)
}

// trickle sends one byte each interval.
type trickle struct {
	http.ResponseWriter
	r     *http.Request
	every time.Duration
}

func (t *trickle) WriteHeader(status int) {
	t.Header().Set("Connection", "close")
	t.ResponseWriter.WriteHeader(status)
}

func (t *trickle) Write(b []byte) (int, error) {
	flush := http.NewResponseController(t.ResponseWriter)
	if t.Header().Get("Content-Length") == "" {
		t.Header().Set("Content-Length", strconv.Itoa(len(b)))
	}
	for i := range b {
		if _, err := t.ResponseWriter.Write(b[i : i+1]); err != nil {
			return i, err
		}
		if err := flush.Flush(); err != nil {
			return i, err
		}
		sleep(t.r.Context(), t.every)
		if t.r.Context().Err() != nil {
			// The client has gone. A handler that returns would end its answer
			// properly, and a client could take the stump for all of it.
			panic(http.ErrAbortHandler)
		}
	}
	return len(b), nil
}
