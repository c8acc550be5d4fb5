package download

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

var lab = Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func client(p Policy) *Client {
	return New(Options{Policy: p, MaxBytes: 64 << 20, IdleLimit: 5 * time.Second, Tries: 3, Pause: time.Millisecond})
}

// memory is a File.
type memory struct{ bytes.Buffer }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off != int64(m.Len()) {
		return 0, fmt.Errorf("written at %d, after %d bytes", off, m.Len())
	}
	return m.Write(p)
}

func (m *memory) Truncate(size int64) error { m.Buffer.Truncate(int(size)); return nil }

func sample(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// mirror serves a file, and does what its script says with each request.
type mirror struct {
	mu     sync.Mutex
	asked  []string // the Range of each request
	file   []byte
	etag   string
	script []func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.asked = append(m.asked, r.Header.Get("Range"))
	var step func(http.ResponseWriter, *http.Request) bool
	if len(m.script) > 0 {
		step, m.script = m.script[0], m.script[1:]
	}
	m.mu.Unlock()
	if step != nil && step(w, r) {
		return
	}
	m.mu.Lock()
	file, etag := m.file, m.etag
	m.mu.Unlock()
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
}

// cut sends the answer as it should be, but only some bytes of it.
func (m *mirror) cut(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("ETag", m.etag)
		http.ServeContent(&cutter{w, n}, r, "", time.Time{}, bytes.NewReader(m.file))
		panic(http.ErrAbortHandler)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.ResponseWriter.(http.Flusher).Flush()
	if c.left -= n; c.left == 0 && err == nil {
		err = io.ErrClosedPipe
	}
	return n, err
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
}

func TestFetchResumesWhatWasCutOff(t *testing.T) {
	t.Parallel()
	m := &mirror{file: sample(3 << 20), etag: `"one"`}
	m.script = append(m.script, m.cut(1<<20), status(503), m.cut(500_000), status(429), m.cut(1))
	url := serve(t, m)
	var got memory
	var asked []int64
	size, err := client(lab).Fetch(t.Context(), Request{URL: url, Room: func(n int64) error { asked = append(asked, n); return nil }}, &got)
	if err != nil || size != int64(len(m.file)) || !bytes.Equal(got.Bytes(), m.file) {
		t.Fatalf("got %d bytes, equal %t, %v", size, bytes.Equal(got.Bytes(), m.file), err)
	}
	want := []string{"", "bytes=1048576-", "bytes=1048576-", "bytes=1548576-", "bytes=1548576-", "bytes=1548577-"}
	if strings.Join(m.asked, " ") != strings.Join(want, " ") {
		t.Errorf("asked for %q, want %q", m.asked, want)
	}
	if len(asked) == 0 || asked[0] != int64(len(m.file)) {
		t.Errorf("asked for room %v, want all of it first", asked)
	}
}

// What cannot be resumed safely is fetched from its start.
func TestFetchStartsAgainWithoutValidators(t *testing.T) {
	t.Parallel()
	m := &mirror{file: sample(1 << 20)}
	m.script = append(m.script, m.cut(300_000))
	var got memory
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m)}, &got); err != nil || !bytes.Equal(got.Bytes(), m.file) {
		t.Errorf("got %d bytes, %v", got.Len(), err)
	}
	// A server that ignores ranges.
	m = &mirror{file: sample(1 << 20), etag: `"x"`}
	m.script = append(m.script, m.cut(300_000), func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	})
	got.Reset()
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m)}, &got); err != nil || !bytes.Equal(got.Bytes(), m.file) {
		t.Errorf("without ranges: got %d bytes, %v", got.Len(), err)
	}
}

func TestFetchRefusesWhatChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(m *mirror){
		"another ETag":     func(m *mirror) { m.file, m.etag = sample(1<<20 + 1)[1:], `"two"` },
		"another length":   func(m *mirror) { m.file = sample(2 << 20) },
		"shorter than had": func(m *mirror) { m.file = sample(1000) },
	} {
		m := &mirror{file: sample(1 << 20), etag: `"one"`}
		cut := m.cut(300_000)
		m.script = append(m.script, func(w http.ResponseWriter, r *http.Request) bool {
			defer change(m)
			return cut(w, r)
		})
		if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m)}, &memory{}); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: got %v, want %v", name, err, ErrChanged)
		}
	}
}

func TestFetchHasLimits(t *testing.T) {
	t.Parallel()
	big := &mirror{file: sample(2 << 20)}
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	hanging := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	o := Options{Policy: lab, MaxBytes: 1 << 20, IdleLimit: 50 * time.Millisecond, Tries: 2, Pause: time.Millisecond}
	for name, tc := range map[string]struct {
		handler http.Handler
		want    error
		change  func(*Options)
	}{
		"larger than allowed": {big, ErrTooLarge, func(*Options) {}},
		"endless":             {endless, ErrTooLarge, func(*Options) {}},
		"silent":              {hanging, errIdle, func(*Options) {}},
		"all too slow":        {hanging, ErrUnavailable, func(o *Options) { o.IdleLimit, o.TotalLimit = time.Minute, 50*time.Millisecond }},
		"always 503":          {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), ErrUnavailable, func(*Options) {}},
		"not found":           {http.NotFoundHandler(), ErrAnswer, func(*Options) {}},
		"redirects for ever":  {http.RedirectHandler("/again", http.StatusFound), ErrRefused, func(*Options) {}},
		"redirect to nowhere": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }), ErrAnswer, func(*Options) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := o
			tc.change(&o)
			if _, err := New(o).Fetch(t.Context(), Request{URL: serve(t, tc.handler)}, &memory{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// An answer that ends with its connection could have been cut off.
func TestFetchWantsALengthOrAHash(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(buf, "HTTP/1.0 200 OK\r\n\r\nsome bytes")
		buf.Flush()
		conn.Close()
	}))
	if _, err := client(lab).Fetch(t.Context(), Request{URL: url}, &memory{}); !errors.Is(err, ErrRefused) {
		t.Errorf("without a hash: got %v, want %v", err, ErrRefused)
	}
	var got memory
	if _, err := client(lab).Fetch(t.Context(), Request{URL: url, Hashed: true}, &got); err != nil || got.String() != "some bytes" {
		t.Errorf("with a hash: got %q, %v", got.String(), err)
	}
}

func TestFetchEndsWithItsContextAndWithRoom(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(started); <-r.Context().Done() }))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := client(lab).Fetch(ctx, Request{URL: url}, &memory{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	full := errors.New("full")
	m := &mirror{file: sample(1 << 20)}
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m), Room: func(int64) error { return full }}, &memory{}); !errors.Is(err, full) || len(m.asked) != 1 {
		t.Errorf("no room: got %v after %d requests, want %v after 1", err, len(m.asked), full)
	}
}

// A place for a short time is left for the first one when it is gone.
func TestFetchGoesBackToTheFirstPlace(t *testing.T) {
	t.Parallel()
	m := &mirror{file: sample(1 << 20), etag: `"one"`}
	m.script = append(m.script, m.cut(100_000), status(403))
	far := serve(t, m)
	hops := 0
	near := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops++
		http.Redirect(w, r, far+"/signed", http.StatusFound)
	}))
	var got memory
	if _, err := client(lab).Fetch(t.Context(), Request{URL: near}, &got); err != nil || !bytes.Equal(got.Bytes(), m.file) || hops != 2 {
		t.Errorf("got %d bytes over %d redirects, %v; want 2", got.Len(), hops, err)
	}
	if want := "bytes=100000-"; m.asked[2] != want {
		t.Errorf("asked for %q, want %q", m.asked[2], want)
	}
}

func TestContentRange(t *testing.T) {
	t.Parallel()
	for s, want := range map[string][2]int64{"bytes 5-9/10": {5, 10}, "bytes 0-9/*": {0, -1}} {
		if first, total, ok := parseContentRange(s); !ok || first != want[0] || total != want[1] {
			t.Errorf("%q: got %d, %d, %t; want %v", s, first, total, ok, want)
		}
	}
	for _, s := range []string{"", "bytes 5-9", "bytes 9-5/10", "bytes 5-8/10", "items 5-9/10", "bytes -1-9/10", "bytes 5-9/x", "bytes */10"} {
		if first, total, ok := parseContentRange(s); ok {
			t.Errorf("%q: got %d, %d, want it refused", s, first, total)
		}
	}
}

// A server that resumes although the file is another one by now, and one whose
// answer ends early without a length of its own, are both seen through.
func TestFetchDistrustsResumedAnswers(t *testing.T) {
	t.Parallel()
	part := func(m *mirror, etag string, n int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 300000-%d/%d", len(m.file)-1, len(m.file)))
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush() // so that it goes in chunks
			w.Write(m.file[300_000 : 300_000+n])
			return true
		}
	}
	m := &mirror{file: sample(1 << 20), etag: `"one"`}
	m.script = append(m.script, m.cut(300_000), part(m, `"two"`, 700_000))
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m)}, &memory{}); !errors.Is(err, ErrChanged) {
		t.Errorf("another ETag: got %v, want %v", err, ErrChanged)
	}
	m = &mirror{file: sample(1 << 20), etag: `"one"`}
	m.script = append(m.script, m.cut(300_000), part(m, `"one"`, 1000))
	var got memory
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, m)}, &got); err != nil || !bytes.Equal(got.Bytes(), m.file) || len(m.asked) != 3 {
		t.Errorf("ended early: got %d bytes in %d requests, %v; want %d in 3", got.Len(), len(m.asked), err, len(m.file))
	}
}
