package image

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// ring is several controllers of one site; its rows are in memory, all else is
// real.
type ring struct {
	t      *testing.T
	signer *Signer

	mu      sync.Mutex // guards the fields below
	sources []string   // base URLs of those with a complete copy
	kept    map[manifest.Digest]bool
	fixed   bool // no other copy of anything: none may be given up
	gone    bool // no image is in service any more
}

func newRing(t *testing.T) *ring {
	t.Helper()
	signer, err := NewSigner(nil, bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &ring{t: t, signer: signer, kept: map[manifest.Digest]bool{}}
}

func (r *ring) ImageSources(context.Context, manifest.Digest) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sources), nil
}

func (r *ring) ImageCopyKeep(_ context.Context, d manifest.Digest) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[d] = !r.gone
	return !r.gone, nil
}

func (r *ring) ImageCopyDrop(_ context.Context, d manifest.Digest) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fixed {
		return false, nil
	}
	delete(r.kept, d)
	return true, nil
}

func (r *ring) ImageCopiesPulled(context.Context) (out []manifest.Digest, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d := range r.kept {
		out = append(out, d)
	}
	return out, nil
}

// source serves a store to the other controllers; wrap may spoil it.
func (r *ring) source(s *Store, wrap func(http.Handler) http.Handler) *httptest.Server {
	var h http.Handler = s.Handler(Serving{Signer: r.signer, Access: &access{}})
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewTLSServer(h)
	r.t.Cleanup(server.Close)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = append(r.sources, server.URL)
	return server
}

// edge is a controller without a copy.
type edge struct {
	store  *Store
	puller *Puller
	server *httptest.Server
	ring   *ring
}

func (r *ring) edge(dir string, o PullOptions, so Options) *edge {
	r.t.Helper()
	so.MinFreeBytes = max(so.MinFreeBytes, 1)
	s, err := Open(dir, so)
	if err != nil {
		r.t.Fatal(err)
	}
	o.Copies, o.Signer, o.Name = r, r.signer, "edge"
	client := httptest.NewTLSServer(nil) // its certificate is that of all test servers
	o.Client = client.Client()
	r.t.Cleanup(client.Close)
	if o.Retry.Patience == 0 {
		o.Retry = fetch.RetryOptions{Patience: 300 * time.Millisecond, FirstWait: 5 * time.Millisecond, LongestWait: 20 * time.Millisecond}
	}
	e := &edge{store: s, puller: s.NewPuller(o), ring: r}
	e.server = httptest.NewServer(s.Handler(Serving{Signer: r.signer, Access: &access{}, Puller: e.puller}))
	r.t.Cleanup(e.close)
	return e
}

func (e *edge) close() {
	e.server.Close()
	e.puller.Close()
	e.store.Close()
}

// get reads from the edge as a machine does.
func (e *edge) get(path, ranges string) (int, []byte, error) {
	req, err := http.NewRequest("GET", e.server.URL+e.ring.signer.Sign(path, m1, time.Now().Add(time.Minute)), nil)
	if err != nil {
		return 0, nil, err
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := e.server.Client().Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// settled waits for the pull of an image to end, and gives how.
func (e *edge) settled(d manifest.Digest) error {
	e.ring.t.Helper()
	e.puller.mu.Lock()
	pl := e.puller.pulls[d]
	e.puller.mu.Unlock()
	if pl == nil {
		e.ring.t.Fatal("nothing was pulled")
	}
	<-pl.done
	return pl.failure()
}

// origin is a store with one image, and its packed bytes.
func origin(t *testing.T) (*Store, Image, []byte) {
	t.Helper()
	s := open(t, t.TempDir())
	img := mustImport(t, s, sample(20<<20+512))
	packed, err := os.ReadFile(filepath.Join(s.path(img.Digest), pack.FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	return s, img, packed
}
