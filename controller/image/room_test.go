package image

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func TestPullsNeedRoom(t *testing.T) {
	t.Parallel()
	from, img, packed := origin(t)
	second := mustImport(t, from, sample(21<<20))
	third := mustImport(t, from, sample(22<<20))
	pulled := func(e *edge, img Image) error {
		if _, err := e.puller.Manifest(t.Context(), img.Digest); err != nil {
			return err
		}
		return e.settled(img.Digest)
	}
	t.Run("none at all", func(t *testing.T) {
		t.Parallel()
		r := newRing(t)
		r.source(from, nil)
		e := r.edge(t.TempDir(), PullOptions{}, Options{MinFreeBytes: 1 << 60})
		if err := pulled(e, img); !errors.Is(err, ErrNoSpace) {
			t.Errorf("got %v", err)
		}
		if status, _, err := e.get(FramesPath(img.Digest), ""); err != nil || status != 503 {
			t.Errorf("a machine got %d, %v", status, err)
		}
		if status, body, err := e.get(ManifestPath(img.Digest), ""); err != nil || (status != 503 && status != 200) {
			t.Errorf("the manifest: %d, %d bytes, %v", status, len(body), err)
		}
		if got := visible(t, e.store.dir); len(got) != 0 {
			t.Errorf("the directory holds %v", got)
		}
	})
	t.Run("for one", func(t *testing.T) {
		t.Parallel()
		r := newRing(t)
		r.source(from, nil)
		e := r.edge(t.TempDir(), PullOptions{MaxBytes: uint64(len(packed)) * 5 / 2}, Options{})
		for _, i := range []Image{img, second} {
			if err := pulled(e, i); err != nil {
				t.Fatal(err)
			}
		}
		if err := pulled(e, third); !errors.Is(err, ErrNoSpace) {
			t.Errorf("with both in use: %v", err)
		}
		old := time.Now().Add(-time.Hour)
		for i, img := range []Image{second, img} {
			if err := os.Chtimes(e.store.path(img.Digest), old.Add(time.Duration(i)*time.Minute), old.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		r.fixed = true
		e.puller.forget(third.Digest)
		if err := pulled(e, third); !errors.Is(err, ErrNoSpace) {
			t.Errorf("with the only copies: %v", err)
		}
		r.fixed = false
		e.puller.forget(third.Digest)
		if err := pulled(e, third); err != nil {
			t.Fatal(err)
		}
		want := []string{img.Digest.Hex(), third.Digest.Hex()}
		slices.Sort(want)
		if got := visible(t, e.store.dir); !cmp.Equal(got, want) {
			t.Errorf("kept %v, want the most recently used %v", got, want)
		}
	})
	t.Run("deleted meanwhile", func(t *testing.T) {
		t.Parallel()
		r := newRing(t)
		r.source(from, nil)
		r.gone = true
		e := r.edge(t.TempDir(), PullOptions{}, Options{})
		if err := pulled(e, img); err == nil {
			t.Error("a deleted image was kept")
		}
		if got := visible(t, e.store.dir); len(got) != 0 {
			t.Errorf("the directory holds %v", got)
		}
	})
}

// forget lets a failed pull be tried again at once.
func (p *Puller) forget(d manifest.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pulls, d)
}
