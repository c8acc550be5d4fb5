package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
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

// sample is a disk without a partition table, a third of it holes.
func sample(size int) []byte {
	rng := rand.New(rand.NewPCG(9, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		if i>>20%3 != 1 {
			b[i] = byte(rng.UintN(50)) + 1
		}
	}
	return b
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{MaxSizeBytes: 64 << 20, MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var rawRequest = Request{Format: pack.Raw, Architecture: "amd64", Name: "debian-12"}

func mustImport(t testing.TB, s *Store, data []byte) Image {
	t.Helper()
	img, err := s.Import(t.Context(), Source{Reader: bytes.NewReader(data)}, rawRequest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func command(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// visible is what is in the directory besides the lock.
func visible(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestImportFromPathAndStreams(t *testing.T) {
	t.Parallel()
	disk := sample(5<<20 + 512)
	dir := t.TempDir()
	raw, qcow := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, qcow)
	qcowData, err := os.ReadFile(qcow)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "store"))
	var want manifest.Digest
	for _, tc := range []struct {
		name   string
		src    Source
		format pack.Format
	}{
		{"raw by path", Source{Path: raw}, pack.Raw},
		{"raw stream", Source{Reader: bytes.NewReader(disk), Size: int64(len(disk))}, pack.Raw},
		{"xz stream", Source{Reader: bytes.NewReader(command(t, disk, "xz", "-1c"))}, pack.RawXZ},
		{"qcow2 by path", Source{Path: qcow}, pack.QCOW2},
		{"qcow2 stream", Source{Reader: bytes.NewReader(qcowData)}, pack.QCOW2},
	} {
		req := rawRequest
		req.Format = tc.format
		var phases []string
		req.Progress = func(p pack.Progress) {
			if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
			if imgs, err := s.List(t.Context()); err != nil || (want == "" && len(imgs) != 0) {
				t.Errorf("%s: half an image is visible: %v, %v", tc.name, imgs, err)
			}
		}
		img, err := s.Import(t.Context(), tc.src, req)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if want == "" {
			want = img.Digest
		}
		if img.Digest != want || img.Manifest.SizeBytes != uint64(len(disk)) || len(img.Warnings) != 1 {
			t.Errorf("%s: got %s, %d bytes, warnings %q", tc.name, img.Digest, img.Manifest.SizeBytes, img.Warnings)
		}
		wantPhases := "pack verify"
		if tc.format == pack.QCOW2 && tc.src.Path == "" {
			wantPhases = "upload pack verify"
		}
		if got := strings.Join(phases, " "); got != wantPhases {
			t.Errorf("%s: got phases %q, want %q", tc.name, got, wantPhases)
		}
	}
	if diff := cmp.Diff([]string{want.Hex()}, visible(t, filepath.Join(dir, "store"))); diff != "" {
		t.Errorf("in the directory, -want +got:\n%s", diff)
	}
	if err := s.Verify(t.Context(), want, nil); err != nil {
		t.Error(err)
	}
	data, err := s.ManifestBytes(want)
	if err != nil || manifest.DigestOf(data) != want {
		t.Errorf("manifest bytes: %v", err)
	}
}

func TestFailedImportsLeaveNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	full, err := Open(filepath.Join(t.TempDir(), "full"), Options{MinFreeBytes: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	broken := errors.New("connection reset")
	cut := io.MultiReader(bytes.NewReader(sample(3<<20)), failing{broken})
	zeros := io.LimitReader(endless{}, 65<<20)
	pipe := filepath.Join(t.TempDir(), "pipe")
	command(t, nil, "mkfifo", pipe)
	qcow := rawRequest
	qcow.Format = pack.QCOW2
	arch := rawRequest
	arch.Architecture = "pdp 11"
	for name, tc := range map[string]struct {
		s    *Store
		src  Source
		req  Request
		want error
	}{
		"stream breaks":     {s, Source{Reader: cut}, rawRequest, broken},
		"too large":         {s, Source{Reader: zeros}, rawRequest, pack.ErrTooLarge},
		"upload too large":  {s, Source{Reader: io.LimitReader(endless{}, 200<<20)}, qcow, ErrUploadTooLarge},
		"not qcow2":         {s, Source{Reader: bytes.NewReader(sample(1 << 20))}, qcow, pack.ErrFormat},
		"missing file":      {s, Source{Path: filepath.Join(dir, "none")}, rawRequest, os.ErrNotExist},
		"named pipe":        {s, Source{Path: pipe}, rawRequest, nil},
		"nothing":           {s, Source{}, rawRequest, nil},
		"bad architecture":  {s, Source{Reader: bytes.NewReader(sample(1 << 20))}, arch, manifest.ErrInvalid},
		"no space":          {full, Source{Reader: bytes.NewReader(sample(40 << 20))}, rawRequest, ErrNoSpace},
		"no space, spooled": {full, Source{Reader: bytes.NewReader(sample(40 << 20))}, qcow, ErrNoSpace},
	} {
		_, err := tc.s.Import(t.Context(), tc.src, tc.req)
		if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if left := visible(t, tc.s.dir); len(left) != 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Import(ended, Source{Reader: bytes.NewReader(sample(1 << 20))}, rawRequest); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLeftoversAreRemovedOnlyByWhoIsAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	leftover := filepath.Join(dir, partialPrefix+"123")
	if err := os.MkdirAll(filepath.Join(leftover, "image"), 0o700); err != nil {
		t.Fatal(err)
	}
	first := open(t, dir)
	if got := visible(t, dir); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if err := os.Mkdir(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir) // beside the first, which may be importing
	if got := visible(t, dir); len(got) != 1 {
		t.Errorf("got %v, want the partial directory to stay", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedCopyIsFoundAndMendedByImportingAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	disk := sample(3 << 20)
	img := mustImport(t, s, disk)
	frames := filepath.Join(dir, img.Digest.Hex(), pack.FramesFile)
	data, err := os.ReadFile(frames)
	if err != nil {
		t.Fatal(err)
	}
	data[img.Manifest.Frames[2].Offset+1000] ^= 1
	if err := os.WriteFile(frames, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), img.Digest, nil); !errors.Is(err, pack.ErrDamaged) {
		t.Errorf("flipped bit: got %v", err)
	}
	if err := os.Truncate(frames, 1000); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), img.Digest, nil); !errors.Is(err, pack.ErrDamaged) {
		t.Errorf("cut: got %v", err)
	}
	mustImport(t, s, disk)
	if err := s.Verify(t.Context(), img.Digest, nil); err != nil {
		t.Errorf("imported again: %v", err)
	}
	if got := visible(t, dir); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, img.Digest.Hex(), pack.ManifestFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir) // the first still has it in memory
	if _, err := again.Get(img.Digest); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("wrong manifest: got %v", err)
	}
	if imgs, err := again.List(t.Context()); err != nil || len(imgs) != 0 {
		t.Errorf("wrong manifest is listed: %v, %v", imgs, err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	img := mustImport(t, s, sample(1<<20))
	if err := s.Delete(img.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(img.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("get: got %v", err)
	}
	if err := s.Delete(img.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: got %v", err)
	}
	for _, bad := range []manifest.Digest{"", "sha256:../../etc", "x"} {
		if err := s.Delete(bad); !errors.Is(err, manifest.ErrDigest) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	if got := visible(t, dir); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// site is a store with one image, served.
type site struct {
	img    Image
	disk   []byte
	store  *Store
	signer *Signer
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
	st.server = httptest.NewServer(st.store.Handler(st.signer, func(s Served) {
		st.mu.Lock()
		defer st.mu.Unlock()
		s.Elapsed = 0
		st.served = append(st.served, s)
	}))
	t.Cleanup(st.server.Close)
	return st
}

func (st *site) link(path string) string {
	return st.server.URL + st.signer.Sign(path, "m1", st.clock.Add(time.Minute))
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
	want := Served{MachineID: "m1", Digest: st.img.Digest, Part: "frames", Range: "bytes=1000-2999", Status: 206, Bytes: 2000}
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
		"expiry that is no number":  {edit(paramExpires, "never"), 403},
		"signature that is no text": {edit(paramSignature, "%%%"), 403},
		"signature cut":             {edit(paramSignature, "abcd"), 403},
		"signed by a stranger":      {st.server.URL + stranger.Sign(path, "m1", st.clock.Add(time.Hour)), 403},
		"expired":                   {st.server.URL + st.signer.Sign(path, "m1", st.clock), 403},
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
	u, err := url.Parse(before.Sign("/images/x/frames", "a b&c=1", time.Now().Add(time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := after.Check(u.Path, u.Query()); err != nil || id != "a b&c=1" {
		t.Errorf("got %q, %v", id, err)
	}
	u, _ = url.Parse(after.Sign("/p", "m", time.Now().Add(time.Minute)))
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
	stale := st.server.URL + st.signer.Sign(FramesPath(st.img.Digest), "m1", st.clock.Add(-time.Second))
	if _, err := mustSource(t, stale, nil).Range(t.Context(), 0, 10); !fetch.Permanent(err) {
		t.Errorf("stale link: got %v", err)
	}
	renewals := 0
	src := mustSource(t, stale, func(context.Context) (string, error) {
		renewals++
		return st.link(FramesPath(st.img.Digest)), nil
	})
	packed := make([]byte, 0, m.PackedSizeBytes)
	for _, run := range m.Runs(nil, 1<<20, 0) {
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
