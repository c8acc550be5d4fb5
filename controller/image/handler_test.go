package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// site is a store with one image, served.
type site struct {
	img    Image
	disk   []byte
	store  *Store
	signer *Signer
	access *access
	server *httptest.Server
	clock  time.Time

	mu     sync.Mutex // guards served
	served []Served
}

func newSite(t *testing.T) *site {
	t.Helper()
	st := &site{disk: sample(6 << 20), clock: time.Unix(1_800_000_000, 0), store: open(t, t.TempDir())}
	st.img = mustImport(t, st.store, st.disk)
	var err error
	if st.signer, err = NewSigner(func() time.Time { return st.clock }, bytes.Repeat([]byte{1}, 32)); err != nil {
		t.Fatal(err)
	}
	st.access = &access{}
	st.server = httptest.NewServer(st.store.Handler(Serving{Signer: st.signer, Access: st.access, Observe: func(s Served) {
		st.mu.Lock()
		defer st.mu.Unlock()
		s.Elapsed = 0
		st.served = append(st.served, s)
	}}))
	t.Cleanup(st.server.Close)
	return st
}

// access lets everybody read until it is told otherwise.
type access struct {
	mu    sync.Mutex // guards the fields below
	grant Grant
	err   error
	asked int
}

func (a *access) ImageGrant(context.Context, Reader, string) (Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return a.grant, a.err
}

func (a *access) set(g Grant, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.grant, a.err = g, err
}

var m1 = Reader{MachineID: "m1", OrderID: 7, BootGeneration: 3}

func (st *site) link(path string) string {
	return st.server.URL + st.signer.Sign(path, m1, st.clock.Add(time.Minute))
}

func (st *site) do(t *testing.T, method, link string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := st.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TestServing(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	packed, err := os.ReadFile(filepath.Join(st.store.path(st.img.Digest), pack.FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	frames := st.link(FramesPath(st.img.Digest))
	canonical, err := st.img.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	resp, body := st.do(t, http.MethodGet, st.link(ManifestPath(st.img.Digest)))
	if resp.StatusCode != 200 || !bytes.Equal(body, canonical) || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("manifest: %d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
	}
	resp, body = st.do(t, http.MethodGet, frames)
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != 200 || !bytes.Equal(body, packed) || tag == "" {
		t.Errorf("frames: %d, %d bytes, tag %q", resp.StatusCode, len(body), tag)
	}
	resp, body = st.do(t, http.MethodGet, frames, "Range", "bytes=1000-2999", "If-Match", tag)
	if resp.StatusCode != 206 || !bytes.Equal(body, packed[1000:3000]) {
		t.Errorf("range: %d, %d bytes", resp.StatusCode, len(body))
	}
	resp, body = st.do(t, http.MethodHead, frames)
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(packed)) || len(body) != 0 || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	for name, tc := range map[string]struct {
		method string
		header []string
		want   int
	}{
		"range beyond the end": {"GET", []string{"Range", "bytes=999999999-"}, 416},
		"many ranges":          {"GET", []string{"Range", "bytes=0-1,2-3"}, 416},
		"other tag":            {"GET", []string{"If-Match", `"x"`}, 412},
		"POST":                 {"POST", nil, 405},
		"DELETE":               {"DELETE", nil, 405},
	} {
		if resp, _ := st.do(t, tc.method, frames, tc.header...); resp.StatusCode != tc.want {
			t.Errorf("%s: got %d, want %d", name, resp.StatusCode, tc.want)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	want := Served{Reader: m1, Digest: st.img.Digest, Part: "frames", Range: "bytes=1000-2999", Status: 206, Bytes: 2000, Sendfile: 2000}
	if diff := cmp.Diff(want, st.served[2]); diff != "" {
		t.Errorf("observed, -want +got:\n%s", diff)
	}
}

func TestOnlyGoodLinksAreServed(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	path := FramesPath(st.img.Digest)
	good := st.link(path)
	edit := func(name, value string) string {
		u, err := url.Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	stranger, err := NewSigner(nil, bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	unknown := manifest.DigestOf([]byte("unknown"))
	for name, tc := range map[string]struct {
		link string
		want int
	}{
		"good":                      {good, 200},
		"digest with its prefix":    {st.link("/images/" + string(st.img.Digest) + "/frames"), 200},
		"unsigned":                  {st.server.URL + path, 403},
		"other machine":             {edit(paramMachine, "m2"), 403},
		"later expiry":              {edit(paramExpires, "1900000000"), 403},
		"other order":               {edit(paramOrder, "8"), 403},
		"other boot":                {edit(paramBoot, "4"), 403},
		"as a controller":           {edit(paramController, "c1"), 403},
		"controller, plain HTTP":    {st.server.URL + st.signer.Sign(path, Reader{Controller: "c1"}, st.clock.Add(time.Minute)), 403},
		"expiry that is no number":  {edit(paramExpires, "never"), 403},
		"signature that is no text": {edit(paramSignature, "%%%"), 403},
		"signature cut":             {edit(paramSignature, "abcd"), 403},
		"signed by a stranger":      {st.server.URL + stranger.Sign(path, m1, st.clock.Add(time.Hour)), 403},
		"expired":                   {st.server.URL + st.signer.Sign(path, m1, st.clock), 403},
		"link of the other part":    {strings.Replace(st.link(ManifestPath(st.img.Digest)), "/manifest?", "/frames?", 1), 403},
		"unknown image, unsigned":   {st.server.URL + FramesPath(unknown), 403},
		"unknown image":             {st.link(FramesPath(unknown)), 404},
		"no digest":                 {st.link("/images/etc/frames"), 404},
		"other part":                {st.link("/images/" + st.img.Digest.Hex() + "/lock"), 404},
		"list":                      {st.server.URL + "/images/", 404},
	} {
		if resp, body := st.do(t, http.MethodGet, tc.link); resp.StatusCode != tc.want || (tc.want != 200 && len(body) > 200) {
			t.Errorf("%s: got %d, %d bytes; want %d", name, resp.StatusCode, len(body), tc.want)
		}
	}
	if err := st.store.Delete(st.img.Digest); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{good, st.link(ManifestPath(st.img.Digest))} {
		if resp, _ := st.do(t, http.MethodGet, link); resp.StatusCode != 404 {
			t.Errorf("deleted: got %d", resp.StatusCode)
		}
	}
}

func TestKeysAreReplaced(t *testing.T) {
	t.Parallel()
	old, fresh := bytes.Repeat([]byte{3}, 32), bytes.Repeat([]byte{4}, 32)
	before, err := NewSigner(nil, old)
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewSigner(nil, fresh, old)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(before.Sign("/images/x/frames", Reader{MachineID: "a b&c=1", OrderID: 1, BootGeneration: 1<<64 - 1}, time.Now().Add(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	want := Reader{MachineID: "a b&c=1", OrderID: 1, BootGeneration: 1<<64 - 1}
	if r, err := after.Check(u.Path, u.Query()); err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
	u, _ = url.Parse(after.Sign("/p", Reader{Controller: "c"}, time.Now().Add(time.Minute)))
	if _, err := before.Check(u.Path, u.Query()); !errors.Is(err, ErrSignature) {
		t.Errorf("new key at the old place: got %v", err)
	}
	for _, keys := range [][][]byte{nil, {make([]byte, 31)}} {
		if _, err := NewSigner(nil, keys...); err == nil {
			t.Error("weak key: got no error")
		}
	}
}

// What this side offers, the other side can fetch: with a link that expires on
// the way and is renewed.
func TestFetchReadsWhatIsServed(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	m, err := fetch.Manifest(t.Context(), []string{st.link(ManifestPath(st.img.Digest))}, st.img.Digest, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stale := st.server.URL + st.signer.Sign(FramesPath(st.img.Digest), m1, st.clock.Add(-time.Second))
	if _, err := mustSource(t, stale, nil).Range(t.Context(), 0, 10); !fetch.Permanent(err) {
		t.Errorf("stale link: got %v", err)
	}
	renewals := 0
	src := mustSource(t, stale, func(context.Context) (string, error) {
		renewals++
		return st.link(FramesPath(st.img.Digest)), nil
	})
	packed := make([]byte, 0, m.PackedSizeBytes)
	for _, run := range m.Runs(m.DataFrames(), manifest.RunLimits{Bytes: 1 << 20}) {
		body, err := src.Range(t.Context(), run.Offset, run.Length)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		body.Close()
		if err != nil || int64(len(data)) != run.Length {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		at := int64(0)
		for _, i := range run.Frames {
			f := m.Frames[i]
			at = int64(f.Offset) - run.Offset
			if manifest.Sum(data[at:at+int64(f.PackedSize)]) != f.PackedSHA256 {
				t.Errorf("frame %d is wrong", i)
			}
		}
		packed = append(packed, data...)
	}
	if renewals != 1 || len(packed) == 0 {
		t.Errorf("%d renewals, %d bytes", renewals, len(packed))
	}
}

func mustSource(t *testing.T, link string, renew func(context.Context) (string, error)) fetch.Source {
	t.Helper()
	src, err := fetch.Open([]string{link}, fetch.Options{HTTP: fetch.HTTPOptions{Renew: renew}})
	if err != nil {
		t.Fatal(err)
	}
	return src
}
