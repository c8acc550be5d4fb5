package build

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
	"github.com/ingot-metal/ingot/initramfs/kernel"
)

// program writes a file that passes for a static binary.
func program(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("\x7fELF"+content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// unpack decompresses the layers with zstd itself, and returns the names of the
// entries in order and their contents.
func unpack(t *testing.T, archive []byte) (names []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	for _, layer := range bytes.SplitAfter(archive, []byte("\x28\xb5\x2f\xfd"))[1:] {
		frame := append([]byte("\x28\xb5\x2f\xfd"), bytes.TrimSuffix(layer, []byte("\x28\xb5\x2f\xfd"))...)
		r, err := zstd.NewReader(bytes.NewReader(bytes.TrimRight(frame, "\x00")))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			data := new(strings.Builder)
			if _, err := io.Copy(data, io.NewSectionReader(rec, 0, int64(rec.FileSize))); err != nil {
				t.Fatal(err)
			}
			names = append(names, rec.Name)
			content[rec.Name] = data.String()
			if rec.MTime != 0 || rec.UID != 0 || rec.GID != 0 {
				t.Errorf("%s: owner %d:%d or time %d is not zero", rec.Name, rec.UID, rec.GID, rec.MTime)
			}
		}
	}
	return names, content
}

func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	o := Options{CacheDir: t.TempDir(), Init: program(t, "init", "one"), Agent: program(t, "agent", "two"), TrustedKeys: program(t, "keys", "RWkey\n")}
	files := []kernel.File{{Path: "lib/modules/6/b.ko", Content: []byte("b")}, {Path: "lib/modules/6/a.ko", Content: []byte("a")}}
	var m Manifest
	first, err := o.pack(t.Context(), files, &m)
	if err != nil {
		t.Fatal(err)
	}
	names, content := unpack(t, first)
	want := []string{"dev", "dev/console", "dev/null", "etc", "lib", "lib/modules", "lib/modules/6", "lib/modules/6/a.ko", "lib/modules/6/b.ko",
		"mnt", "proc", "root", "run", "sbin", "sbin/modprobe", "sys", "tmp", "var", "bin", "bin/ingot-agent", "etc", "etc/ingot", "etc/ingot/trusted-keys", "init"}
	if diff := cmp.Diff(names, want); diff != "" {
		t.Errorf("entries (-got +want):\n%s", diff)
	}
	if got, want := content["lib/modules/6/a.ko"], "a"; got != want {
		t.Errorf("a.ko: got %q, want %q", got, want)
	}
	if got := content["etc/ingot/trusted-keys"]; !strings.HasSuffix(got, "RWkey\n") {
		t.Errorf("trusted keys: got %q", got)
	}
	o.CacheDir = t.TempDir()
	second, err := o.pack(t.Context(), []kernel.File{files[1], files[0]}, &m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same inputs in another order gave other bytes")
	}
	if len(first)%4 != 0 {
		t.Errorf("archive of %d bytes is not padded to a multiple of 4", len(first))
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	good := program(t, "x", "")
	dynamic := program(t, "y", "/lib64/ld-linux-x86-64.so.2")
	if _, err := programs(good, dynamic, ""); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("dynamic agent: got %v, want an error that says what to do", err)
	}
	if _, err := programs(good, filepath.Join(t.TempDir(), "gone"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing agent: got %v, want %v", err, os.ErrNotExist)
	}
	if _, err := base([]kernel.File{{Path: "a"}, {Path: "a"}}); err == nil {
		t.Error("file twice: got nil, want an error")
	}
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	var m Manifest
	if err := m.weigh(make([]byte, 60), make([]byte, 40), 100); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := m.weigh(make([]byte, 60), make([]byte, 41), 100); err == nil || m.TotalBytes != 101 {
		t.Errorf("over the limit: got %v, %d bytes", err, m.TotalBytes)
	}
}

func TestLocalboot(t *testing.T) {
	t.Parallel()
	const grub = "/usr/lib/grub/x86_64-efi"
	image, err := localboot(t.Context(), grub)
	if err != nil {
		t.Fatal(err)
	}
	guid := "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	patched, err := cmdline.PatchLocalboot(image, guid, "/EFI/debian/shimx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"set wanted=" + guid + "\n", "set loader='/EFI/debian/shimx64.efi'   "} {
		if n := bytes.Count(patched, []byte(line)); n != 1 {
			t.Errorf("%q stands %d times in the patched image, want once", line, n)
		}
	}
	if len(patched) != len(image) {
		t.Errorf("patched image: got %d bytes, want %d", len(patched), len(image))
	}
	again, err := localboot(t.Context(), grub)
	if err != nil || !bytes.Equal(image, again) {
		t.Errorf("made twice: not the same bytes, %v", err)
	}
}
