package api_test

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/proto/operator"
)

// flushed is a file as package gpt wants it.
type flushed struct{ *os.File }

func (f flushed) Flush() error { return f.Sync() }

// ext4Disk is a disk of 8 MiB whose one partition is an ext4 filesystem without
// files, with rubbish in its free blocks.
func ext4Disk(t *testing.T) []byte {
	t.Helper()
	const start, size, total = 1 << 20, 6 << 20, 8 << 20
	dir := t.TempDir()
	path := filepath.Join(dir, "fs")
	fs := make([]byte, size)
	rand.Read(fs)
	if err := os.WriteFile(path, fs, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", path).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	fs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	table, err := gpt.New(total, 512)
	if err != nil {
		t.Fatal(err)
	}
	table.Partitions = []gpt.Partition{{Number: 1, Type: gpt.TypeRootAMD64, ID: gpt.NewGUID(), FirstLBA: start / 512, LastLBA: (start+size)/512 - 1}}
	if err := disk.Truncate(total); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(flushed{disk}); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteAt(fs, start); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(disk.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTrim: what it left out, and what it could not, is told to who asked for it,
// at both doors.
func TestTrim(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk, plain := ext4Disk(t), []byte(strings.Repeat("no table", 1<<17))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain" {
			w.Write(plain)
			return
		}
		w.Write(disk)
	}))
	t.Cleanup(web.Close)
	header := func(name string, trim bool) *operator.ImageHeader {
		return &operator.ImageHeader{Name: name, Architecture: "amd64", Format: "raw", Trim: trim}
	}
	whole, err := s.imported(header("whole", false), disk)
	if err != nil || whole.GetTrimmedBytes() != 0 {
		t.Fatalf("got %v, %v, want nothing trimmed", whole, err)
	}
	small, err := s.imported(header("small", true), disk)
	if err != nil || small.GetTrimmedBytes() < 4<<20 || small.GetPackedSizeBytes() > whole.GetPackedSizeBytes()/2 {
		t.Fatalf("got %v, %v, want 4 MiB trimmed", small, err)
	}
	fetched, _, err := s.fetched(s.soon(), &operator.ImageImportURLRequest{Url: web.URL + "/disk", Header: header("small", true)})
	if err != nil || fetched.GetDigest() != small.GetDigest() || fetched.GetTrimmedBytes() != small.GetTrimmedBytes() {
		t.Errorf("from a URL: got %v, %v, want %v", fetched, err, small)
	}
	fetched, _, err = s.fetched(s.soon(), &operator.ImageImportURLRequest{Url: web.URL + "/plain", Header: header("plain", true)})
	if got := strings.Join(fetched.GetWarnings(), "\n"); err != nil || !strings.Contains(got, "nothing was trimmed") || !strings.Contains(got, "plain http") {
		t.Errorf("without a filesystem: warnings %q, %v, want that nothing was trimmed, and of plain http", got, err)
	}
	_, err = s.imported(&operator.ImageHeader{Name: "b", Format: "bundle", Trim: true}, disk)
	wantRefusal(t, "a bundle", err, codes.InvalidArgument, "bundle")
}
