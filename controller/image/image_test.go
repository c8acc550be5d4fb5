package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
