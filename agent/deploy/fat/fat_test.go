package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/deploy/fat"
)

var at = time.Date(2026, 11, 22, 10, 11, 12, 0, time.UTC)

// run needs the tools of dosfstools and mtools, which make test installs.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=0", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath(name); err != nil {
		cmd.Path = "/usr/sbin/" + name
	} else {
		cmd.Path = path
	}
	cmd.Err = nil
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s (packages dosfstools and mtools): %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func TestOtherToolsReadIt(t *testing.T) {
	t.Parallel()
	files := []fat.File{
		{Name: "meta-data", Data: []byte("instance-id: i-1\n")},
		{Name: "user-data", Data: bytes.Repeat([]byte("#cloud-config \x00\xff\n"), 60000)}, // about 1 MiB, many clusters
		{Name: "vendor-data", Data: nil},
		{Name: "network-config", Data: bytes.Repeat([]byte("v"), 4096)},
	}
	for _, tc := range []struct {
		size   int64
		sector int
		kind   string
	}{
		{8 << 20, 512, "FAT16"}, {8 << 20, 4096, "FAT12"}, {2 << 20, 512, "FAT12"}, {64 << 20, 512, "FAT16"},
		{64 << 20, 4096, "FAT16"}, {8<<20 + 511, 512, "FAT16"},
		{2<<20 + 40<<10, 512, "FAT16"}, {2<<20 + 28<<10, 512, "FAT12"}, // near the border between the two
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.size, tc.sector), func(t *testing.T) {
			t.Parallel()
			img, err := fat.Build(fat.Options{SizeBytes: tc.size, SectorSize: tc.sector, Label: "cidata", Serial: 0x12345678, Time: at}, files)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := int64(len(img)), tc.size/int64(tc.sector)*int64(tc.sector); got != want {
				t.Errorf("size: got %d, want %d", got, want)
			}
			if got := string(img[54:59]); got != tc.kind {
				t.Errorf("type: got %s, want %s", got, tc.kind)
			}
			path := filepath.Join(t.TempDir(), "seed.img")
			if err := os.WriteFile(path, img, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "fsck.fat", "-n", path)
			if got := string(run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", path)); strings.TrimSpace(got) != "cidata" {
				t.Errorf("label: got %q, want cidata", got)
			}
			for _, f := range files {
				if got := run(t, "mtype", "-i", path, "::"+f.Name); !bytes.Equal(got, f.Data) {
					t.Errorf("%s: mtools read %d bytes, other than the %d written", f.Name, len(got), len(f.Data))
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	good := fat.Options{SizeBytes: 1 << 20, SectorSize: 512, Label: "cidata", Time: at}
	for name, tc := range map[string]struct {
		change func(*fat.Options)
		file   fat.File
		want   error
	}{
		"too small": {func(o *fat.Options) { o.SizeBytes = 1000 }, fat.File{Name: "a"}, nil},
		"sector":    {func(o *fat.Options) { o.SectorSize = 1000 }, fat.File{Name: "a"}, nil},
		"label":     {func(o *fat.Options) { o.Label = "a label too long" }, fat.File{Name: "a"}, nil},
		"name":      {func(*fat.Options) {}, fat.File{Name: "a/b"}, nil},
		"dots":      {func(*fat.Options) {}, fat.File{Name: ".."}, nil},
		"room":      {func(*fat.Options) {}, fat.File{Name: "a", Data: make([]byte, 1<<20)}, fat.ErrNoRoom},
	} {
		o := good
		tc.change(&o)
		_, err := fat.Build(o, []fat.File{tc.file})
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want an error (%v)", name, err, tc.want)
		}
	}
}
