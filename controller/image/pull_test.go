package image

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Many machines that ask a controller without a copy cost one pull, and all get
// what the importer would have given them; afterwards the copy is as good.
func TestPullOnceForAll(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	from, img, packed := origin(t)
	var bytesOut atomic.Int64
	r.source(from, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			c := &flow{ResponseWriter: w}
			h.ServeHTTP(struct{ http.ResponseWriter }{c}, req)
			bytesOut.Add(c.bytes)
		})
	})
	e := r.edge(t.TempDir(), PullOptions{}, Options{})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			ranges, want, status := "", packed, 200
			if i%2 == 1 {
				ranges, want, status = "bytes=7000000-7999999", packed[7000000:8000000], 206
			}
			got, body, err := e.get(FramesPath(img.Digest), ranges)
			if err != nil || got != status || !bytes.Equal(body, want) {
				t.Errorf("%q: %d, %d bytes, %v", ranges, got, len(body), err)
			}
		})
	}
	if data, err := e.puller.Manifest(t.Context(), img.Digest); err != nil || manifest.DigestOf(data) != img.Digest {
		t.Errorf("manifest: %d bytes, %v", len(data), err)
	}
	wg.Wait()
	if err := e.settled(img.Digest); err != nil {
		t.Fatal(err)
	}
	if limit := int64(len(packed)) * 11 / 10; bytesOut.Load() > limit || e.puller.Count().Begun != 1 {
		t.Errorf("the source sent %d bytes of an image of %d; %+v", bytesOut.Load(), len(packed), e.puller.Count())
	}
	if err := e.store.Verify(t.Context(), img.Digest, nil); err != nil || !r.kept[img.Digest] {
		t.Errorf("the copy: %v, recorded %t", err, r.kept[img.Digest])
	}
	if status, body, err := e.get(FramesPath(img.Digest), ""); err != nil || status != 200 || !bytes.Equal(body, packed) {
		t.Errorf("afterwards: %d, %d bytes, %v", status, len(body), err)
	}
	if got := visible(t, e.store.dir); !cmp.Equal(got, []string{img.Digest.Hex()}) {
		t.Errorf("the directory holds %v", got)
	}
}

// A range is served while the image arrives, and what a machine waits for comes
// before the rest.
func TestServedWhileItArrives(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	from, img, packed := origin(t)
	allowed := make(chan struct{}, 1000)
	var mu sync.Mutex
	var asked []string
	r.source(from, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/frames") {
				mu.Lock()
				asked = append(asked, req.Header.Get("Range"))
				mu.Unlock()
				<-allowed
			}
			h.ServeHTTP(w, req)
		})
	})
	e := r.edge(t.TempDir(), PullOptions{}, Options{})
	last := img.Manifest.Frames[len(img.Manifest.Frames)-1]
	if last.Zero {
		t.Fatal("the sample ends in a hole")
	}
	end := int(last.Offset) + int(last.PackedSize)
	got := make(chan []byte)
	go func() {
		_, body, err := e.get(FramesPath(img.Digest), "bytes="+itoa(int(last.Offset))+"-"+itoa(end-1))
		if err != nil {
			t.Error(err)
		}
		got <- body
	}()
	for range pullWorkers + 1 { // the workers' first runs, and what is waited for
		allowed <- struct{}{}
	}
	if body := <-got; !bytes.Equal(body, packed[last.Offset:end]) {
		t.Errorf("got %d bytes, want %d", len(body), end-int(last.Offset))
	}
	mu.Lock()
	n := len(asked)
	mu.Unlock()
	if total := (len(packed) + runBytes - 1) / runBytes; n > 2*pullWorkers+1 || n > total+1 {
		t.Errorf("the last frame came after %d of %d runs: %v", n, total, asked)
	}
	for range 100 {
		allowed <- struct{}{}
	}
	if err := e.settled(img.Digest); err != nil {
		t.Error(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// A source that dies, lies or has nothing costs nothing but time while another
// is there.
func TestBadSources(t *testing.T) {
	t.Parallel()
	from, img, packed := origin(t)
	garbage := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			body := rec.Body.Bytes()
			if strings.HasSuffix(req.URL.Path, "/frames") {
				body = bytes.Clone(body)
				body[len(body)/2] ^= 1
			}
			_, _ = w.Write(body)
		})
	}
	dies := func(after int32) func(http.Handler) http.Handler {
		var n atomic.Int32
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if n.Add(1) > after {
					panic(http.ErrAbortHandler)
				}
				h.ServeHTTP(w, req)
			})
		}
	}
	badTable := func(h http.Handler) http.Handler { // what no hash covers
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			body := bytes.Clone(rec.Body.Bytes())
			if bytes.HasSuffix(packed, body[max(0, len(body)-100):]) {
				body[len(body)-12] ^= 1
			}
			_, _ = w.Write(body)
		})
	}
	for name, bad := range map[string]func(http.Handler) http.Handler{
		"garbage": garbage, "dead": dies(0), "dies half-way": dies(3), "other seek table": badTable,
		"gone": func(http.Handler) http.Handler { return http.NotFoundHandler() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRing(t)
			r.source(from, bad)
			r.source(from, nil)
			e := r.edge(t.TempDir(), PullOptions{}, Options{})
			status, body, err := e.get(FramesPath(img.Digest), "bytes=0-"+itoa(len(packed)-1000))
			if err != nil || status != 206 || !sameFrames(img.Manifest, packed, body) {
				t.Errorf("%d, %d bytes, %v", status, len(body), err)
			}
			if err := e.settled(img.Digest); err != nil {
				t.Error(err)
			}
			if err := e.store.Verify(t.Context(), img.Digest, nil); err != nil {
				t.Error(err)
			}
		})
		t.Run(name+" alone", func(t *testing.T) {
			t.Parallel()
			r := newRing(t)
			r.source(from, bad)
			e := r.edge(t.TempDir(), PullOptions{}, Options{})
			status, body, err := e.get(FramesPath(img.Digest), "")
			if name != "other seek table" && err == nil && status == 200 {
				t.Errorf("%d, %d bytes", status, len(body))
			}
			if err := e.settled(img.Digest); err == nil {
				t.Error("the pull ended well")
			}
			if _, err := e.store.Get(img.Digest); !errors.Is(err, ErrNotFound) {
				t.Errorf("there is a copy: %v", err)
			}
		})
	}
}

// sameFrames compares what hashes cover.
func sameFrames(m *manifest.Manifest, want, got []byte) bool {
	for _, f := range m.Frames {
		end := int(f.Offset) + int(f.PackedSize)
		if !f.Zero && end <= len(got) && !bytes.Equal(want[f.Offset:end], got[f.Offset:end]) {
			return false
		}
	}
	return true
}

// What a broken pull brought is not fetched again, also after a restart; what a
// disk made of it meanwhile is.
func TestPullGoesOn(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	from, img, packed := origin(t)
	var requests atomic.Int32
	r.source(from, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if requests.Add(1) > 3 { // the manifest and two runs
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, req)
		})
	})
	dir := t.TempDir()
	e := r.edge(dir, PullOptions{}, Options{})
	if _, err := e.puller.Manifest(t.Context(), img.Digest); err != nil {
		t.Fatal(err)
	}
	if err := e.settled(img.Digest); err == nil {
		t.Fatal("the pull ended well")
	}
	first := e.puller.Count().Bytes
	e.close()
	if first == 0 || first >= uint64(len(packed)) {
		t.Fatalf("the first pull brought %d bytes", first)
	}
	// The disk loses a frame.
	path := filepath.Join(dir, pullPrefix+img.Digest.Hex(), pack.FramesFile)
	half, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, f := range img.Manifest.Frames {
		if end := int(f.Offset) + int(f.PackedSize); !f.Zero && bytes.Equal(half[f.Offset:end], packed[f.Offset:end]) {
			half[f.Offset] ^= 1
			lost = int(f.PackedSize)
			break
		}
	}
	if err := os.WriteFile(path, half, 0o600); err != nil {
		t.Fatal(err)
	}
	r.sources = nil
	r.source(from, nil)
	e = r.edge(dir, PullOptions{}, Options{})
	if status, body, err := e.get(FramesPath(img.Digest), ""); err != nil || status != 200 || !bytes.Equal(body, packed) {
		t.Fatalf("%d, %d bytes, %v", status, len(body), err)
	}
	if err := e.settled(img.Digest); err != nil {
		t.Fatal(err)
	}
	if second := e.puller.Count().Bytes; second > uint64(len(packed))-first+uint64(lost)+4096 {
		t.Errorf("the pulls brought %d and %d bytes of %d, a frame of %d was lost", first, second, len(packed), lost)
	}
}

// Who looked for the copy just before a pull put it into its place gets that one,
// and the image does not come a second time.
func TestPulledWhileSomebodyLooked(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	from, img, packed := origin(t)
	r.source(from, nil)
	e := r.edge(t.TempDir(), PullOptions{}, Options{})
	if _, err := e.puller.Manifest(t.Context(), img.Digest); err != nil {
		t.Fatal(err)
	}
	if err := e.settled(img.Digest); err != nil {
		t.Fatal(err)
	}
	c, err := e.puller.content(t.Context(), img.Digest, partFrames)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, packed) {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(packed))
	}
	if got := e.puller.Count().Begun; got != 1 {
		t.Errorf("%d pulls were begun, want 1", got)
	}
	if err := e.store.Delete(img.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := e.puller.begin(img.Digest); err != nil || e.puller.Count().Begun != 2 {
		t.Errorf("after it was deleted: %d pulls were begun, want 2; %v", e.puller.Count().Begun, err)
	}
}

// Nobody has it: that is said at once, and to a controller that asks always.
func TestNobodyHasIt(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	e := r.edge(t.TempDir(), PullOptions{}, Options{})
	d := manifest.DigestOf([]byte("unknown"))
	if status, _, err := e.get(FramesPath(d), ""); err != nil || status != 404 {
		t.Errorf("got %d, %v", status, err)
	}
	from, img, _ := origin(t)
	r.source(from, nil)
	server := r.source(e.store, nil)
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+r.signer.Sign(FramesPath(img.Digest), Reader{Controller: "c"}, time.Now().Add(time.Minute)), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 || len(e.puller.pulls) > 1 {
		t.Errorf("a controller got %d, %d pulls", resp.StatusCode, len(e.puller.pulls))
	}
}
