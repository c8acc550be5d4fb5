package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// openLab may download from loopback.
func openLab(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{MaxSizeBytes: 64 << 20, MinFreeBytes: 1, Download: download.Options{
		Policy: download.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Pause: time.Millisecond, Tries: 2,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mirror serves files by name, each cut off once in its middle.
func mirror(t testing.TB, files map[string][]byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"`+r.URL.Path+`"`)
		if r.Header.Get("Range") == "" && len(data) > 100_000 {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			w.Write(data[:len(data)/2])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestImportFromURL(t *testing.T) {
	t.Parallel()
	disk := sample(6 << 20)
	xz, qcow := command(t, disk, "xz", "-1c"), qcowOf(t, disk)
	sum := sha256.Sum256(xz)
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	reader := minisign.NewReader(bytes.NewReader(xz))
	io.Copy(io.Discard, reader)
	signature := reader.Sign(private)
	url := mirror(t, map[string][]byte{
		"/disk.raw.xz": xz, "/disk.raw.xz.minisig": signature, "/disk.qcow2": qcow, "/other.minisig": signature, "/long.minisig": make([]byte, 2000),
		"/unsigned.qcow2": qcow, "/wrong.qcow2": qcow, "/wrong.qcow2.minisig": signature,
	})
	good := hex.EncodeToString(sum[:])
	for name, tc := range map[string]struct {
		path   string
		format pack.Format
		proof  Proof
		want   error
	}{
		"no proof":               {"/disk.raw.xz", pack.RawXZ, Proof{}, nil},
		"qcow2":                  {"/disk.qcow2", pack.QCOW2, Proof{}, nil},
		"recognised":             {"/disk.raw.xz", pack.Auto, Proof{}, nil},
		"not recognised":         {"/disk.qcow2", pack.Auto, Proof{}, pack.ErrUncertain},
		"SHA-256":                {"/disk.raw.xz", pack.RawXZ, Proof{SHA256: good}, nil},
		"SHA-256, upper case":    {"/disk.raw.xz", pack.RawXZ, Proof{SHA256: strings.ToUpper(good)}, nil},
		"wrong SHA-256":          {"/disk.qcow2", pack.QCOW2, Proof{SHA256: good}, ErrSourceProof},
		"no SHA-256":             {"/disk.qcow2", pack.QCOW2, Proof{SHA256: good[2:]}, ErrSourceProof},
		"signed":                 {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String()}, nil},
		"signed elsewhere":       {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String(), SignatureURL: "/other.minisig"}, nil},
		"signed by hand":         {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String(), Signature: string(signature)}, nil},
		"signed and hashed":      {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String(), SHA256: good}, nil},
		"signed by another":      {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: other.String()}, ErrSourceProof},
		"another file is signed": {"/wrong.qcow2", pack.QCOW2, Proof{PublicKey: public.String()}, ErrSourceProof},
		"not signed":             {"/unsigned.qcow2", pack.QCOW2, Proof{PublicKey: public.String()}, ErrSourceAnswer},
		"no key":                 {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: "RWQ"}, ErrSourceProof},
		"no signature":           {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String(), Signature: "hello"}, ErrSourceProof},
		"signature too long":     {"/disk.raw.xz", pack.RawXZ, Proof{PublicKey: public.String(), SignatureURL: "/long.minisig"}, ErrSourceProof},
		"signature without key":  {"/disk.raw.xz", pack.RawXZ, Proof{Signature: string(signature)}, ErrSourceProof},
		"not there":              {"/nothing", pack.Raw, Proof{}, ErrSourceAnswer},
		"another format":         {"/disk.raw.xz", pack.RawGzip, Proof{}, pack.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openLab(t, dir)
			if tc.proof.SignatureURL != "" {
				tc.proof.SignatureURL = url + tc.proof.SignatureURL
			}
			var phases []string
			req := rawRequest
			req.Format = tc.format
			req.Progress = func(p pack.Progress) { phases = append(phases, p.Phase) }
			img, err := s.Import(t.Context(), Source{URL: url + tc.path, Proof: tc.proof}, req)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if tc.want != nil {
				if left := visible(t, dir); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			want := []string{"download", "pack", "verify"}
			if tc.proof != (Proof{}) {
				want = []string{"download", "check", "pack", "verify"}
			}
			if got := slices.Compact(phases); !slices.Equal(got, want) {
				t.Errorf("phases %v, want %v", got, want)
			}
			if got, want := len(img.Warnings), 1; tc.proof == (Proof{}) && got != want+1 || tc.proof != (Proof{}) && got != want {
				t.Errorf("warnings %q: want one about the partition table, and one about plain http without a proof", img.Warnings)
			}
			if got := visible(t, dir); !slices.Equal(got, []string{img.Digest.Hex()}) {
				t.Errorf("in the store: %v, want only %s", got, img.Digest.Hex())
			}
			if int64(img.Manifest.SizeBytes) != int64(len(disk)) || s.Verify(t.Context(), img.Digest, nil) != nil {
				t.Errorf("the image has %d bytes, want %d, and is whole: %v", int64(img.Manifest.SizeBytes), len(disk), s.Verify(t.Context(), img.Digest, nil))
			}
		})
	}
}

func qcowOf(t testing.TB, disk []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	raw, q := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, q)
	data, err := os.ReadFile(q)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The zero value of the policy lets nobody read what only the controller can.
func TestImportRefusesInnerURLs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for _, url := range []string{"file:///etc/passwd", mirror(t, nil) + "/x", "http://169.254.169.254/latest/meta-data", "http://user:pw@mirror.example/x", "ftp://mirror.example/x"} {
		if _, err := s.Import(t.Context(), Source{URL: url}, rawRequest); !errors.Is(err, ErrSourceRefused) {
			t.Errorf("%s: got %v, want %v", url, err, ErrSourceRefused)
		}
	}
	if left := visible(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestImportFromURLHeedsTheFreeSpace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openLab(t, dir)
	s.opts.MinFreeBytes = 1 << 60
	url := mirror(t, map[string][]byte{"/disk": sample(1 << 20)})
	if _, err := s.Import(t.Context(), Source{URL: url + "/disk"}, rawRequest); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want %v", err, ErrNoSpace)
	}
	if left := visible(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A proof works for files and streams too.
func TestProofOfFilesAndStreams(t *testing.T) {
	t.Parallel()
	disk := sample(2 << 20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	good, wrong := sha256.Sum256(disk), sha256.Sum256(nil)
	for want, sum := range map[error][32]byte{nil: good, ErrSourceProof: wrong} {
		proof := Proof{SHA256: hex.EncodeToString(sum[:])}
		for name, src := range map[string]Source{"file": {Path: path, Proof: proof}, "stream": {Reader: bytes.NewReader(disk), Proof: proof}} {
			if _, err := openLab(t, t.TempDir()).Import(t.Context(), src, rawRequest); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", name, err, want)
			}
		}
	}
}

// A file that somebody writes to while it is imported is two halves of two
// disks.
func TestFileThatChangesIsRefused(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, sample(4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	req := rawRequest
	req.Progress = func(p pack.Progress) {
		if p.Phase == "verify" {
			os.Chtimes(path, time.Now(), time.Now().Add(time.Hour))
		}
	}
	if _, err := openLab(t, dir).Import(t.Context(), Source{Path: path}, req); !errors.Is(err, ErrSourceChanged) {
		t.Errorf("got %v, want %v", err, ErrSourceChanged)
	}
	if left := visible(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCancelledDownloadLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	if _, err := openLab(t, dir).Import(ctx, Source{URL: server.URL}, rawRequest); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if left := visible(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
