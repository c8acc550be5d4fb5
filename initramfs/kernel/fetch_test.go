package kernel

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/openpgp"           // frozen, but all that a test archive needs
	"golang.org/x/crypto/openpgp/clearsign" // the same
)

// archive writes a signed Debian archive with linux-image-amd64 and the kernel it
// depends on, and returns a sources file that names it and its key.
func archive(t *testing.T, kernelVersion string, signer *openpgp.Entity) (dir, sources string) {
	t.Helper()
	dir = t.TempDir()
	kernelTree := filepath.Join(dir, "tree")
	write(t, filepath.Join(kernelTree, "boot/vmlinuz-6.1.0-9-amd64"), []byte("kernel "+kernelVersion))
	deb := debPackage(t, kernelTree, "Package: linux-image-6.1.0-9-amd64\nVersion: "+kernelVersion+"\n")
	write(t, filepath.Join(dir, "kernel.deb"), deb)
	packages := fmt.Sprintf("Package: linux-image-amd64\nVersion: 1\nArchitecture: amd64\nDepends: linux-image-6.1.0-9-amd64\nFilename: none.deb\nSize: 1\nSHA256: %064d\n\n"+
		"Package: linux-image-6.1.0-9-amd64\nVersion: %s\nArchitecture: amd64\nFilename: kernel.deb\nSize: %d\nSHA256: %x\n",
		0, kernelVersion, len(deb), sha256.Sum256(deb))
	write(t, filepath.Join(dir, "Packages"), []byte(packages))
	release := fmt.Sprintf("Origin: test\nSuite: test\nDate: %s\nSHA256:\n %x %d Packages\n",
		time.Now().UTC().Format(time.RFC1123), sha256.Sum256([]byte(packages)), len(packages))
	write(t, filepath.Join(dir, "InRelease"), sign(t, signer, release))
	return dir, sourcesFor(t, dir, signer)
}

func sourcesFor(t *testing.T, dir string, key *openpgp.Entity) string {
	t.Helper()
	var public bytes.Buffer
	if err := key.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "key.gpg")
	write(t, ring, public.Bytes())
	return fmt.Sprintf("Types: deb\nURIs: file:%s\nSuites: ./\nSigned-By: %s\n", dir, ring)
}

func newKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("test archive", "", "test@example.invalid", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range key.Identities {
		if err := id.SelfSignature.SignUserId(id.UserId.Id, key.PrimaryKey, key.PrivateKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

func sign(t *testing.T, key *openpgp.Entity, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, key.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func debPackage(t *testing.T, tree, control string) []byte {
	t.Helper()
	write(t, filepath.Join(tree, "DEBIAN/control"), []byte(control+"Architecture: amd64\nMaintainer: test <test@example.invalid>\nDescription: test\n"))
	out := filepath.Join(t.TempDir(), "p.deb")
	if msg, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", tree, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, msg)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFetch runs apt against a signed archive on disk: the meta-package is
// resolved, the cache is used while fresh and when the archive is gone, and an
// archive signed by a stranger is refused.
func TestFetch(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	dir, sources := archive(t, "6.1.9-1", key)
	cache := filepath.Join(t.TempDir(), "cache")
	now := time.Now()
	var warnings []error
	fetch := func(src Source, at time.Time) (Package, error) {
		warnings = nil
		return Fetch(t.Context(), cache, src, at, func(err error) { warnings = append(warnings, err) })
	}
	p, err := fetch(Source{Sources: sources, MaxAge: time.Hour}, now)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "linux-image-6.1.0-9-amd64" || p.Version != "6.1.9-1" {
		t.Errorf("resolved: got %s %s, want linux-image-6.1.0-9-amd64 6.1.9-1", p.Name, p.Version)
	}
	image, err := p.Image()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(image); err != nil || string(got) != "kernel 6.1.9-1" {
		t.Errorf("image: got %q, %v", got, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(Source{Sources: sources, MaxAge: time.Hour}, now.Add(time.Minute)); err != nil || len(warnings) > 0 {
		t.Errorf("fresh cache: got %v, warnings %v", err, warnings)
	}
	if _, err := fetch(Source{Sources: sources, MaxAge: time.Hour}, now.Add(2*time.Hour)); err != nil || len(warnings) != 1 {
		t.Errorf("archive gone: got %v, %d warnings, want the cached kernel and 1 warning", err, len(warnings))
	}
	if p, err := fetch(Source{Sources: sources, Package: "linux-image-other", MaxAge: time.Hour}, now); err == nil {
		t.Errorf("another package: got %s from the cache, want an error", p.Name)
	}

	other, _ := archive(t, "6.1.9-2", newKey(t))
	cache = filepath.Join(t.TempDir(), "cache")
	if p, err := fetch(Source{Sources: sourcesFor(t, other, key)}, now); err == nil {
		t.Errorf("archive signed by a stranger: got %v, want an error", p)
	}
}
