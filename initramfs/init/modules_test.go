package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, id string
		want        bool
	}{
		{"pci:v00001AF4d00001000sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", true},
		{"pci:v00001AF4d00001001sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", false},
		{"pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", true},
		{"usb:v*p*d*dc*dsc*dp*ic08isc06ip[56]0in*", "usb:v1p2d3dc0dsc0dp0ic08isc06ip50in00", true},
		{"usb:v*p*d*dc*dsc*dp*ic08isc06ip[56]0in*", "usb:v1p2d3dc0dsc0dp0ic08isc06ip70in00", false},
		{"dmi*:[bs]vnDell*", "dmi:bvnX:svnDell Inc./a:", true},
		{"x[a-c]z", "xbz", true}, {"x[!a-c]z", "xbz", false}, {"x[!a-c]z", "xdz", true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*", "", true}, {"", "", true}, {"", "a", false},
		{"x[", "x[", false}, {"x[]", "x", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false},
	} {
		if got := match(tc.pattern, tc.id); got != tc.want {
			t.Errorf("match(%q, %q): got %v, want %v", tc.pattern, tc.id, got, tc.want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d[0-9]?", "pci:v1d2x")
	f.Fuzz(func(t *testing.T, pattern, id string) {
		if len(pattern) > 1<<10 || len(id) > 1<<10 {
			return
		}
		match(pattern, id)
		if !strings.ContainsAny(id, "*?[") && !match(id, id) {
			t.Errorf("%q does not match itself", id)
		}
	})
}

// fakeMachine writes module tables and a sysfs below a fresh root.
func fakeMachine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// recorder notes the order in which modules would be loaded.
type recorder struct {
	mu     sync.Mutex
	loaded []string
	after  map[string]func()
}

func (r *recorder) load(path string) {
	name := strings.TrimSuffix(filepath.Base(path), ".ko")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loaded = append(r.loaded, name)
	if f := r.after[name]; f != nil {
		f()
	}
}

const tables = "lib/modules/6.1.0-test/"

func TestColdplug(t *testing.T) {
	t.Parallel()
	root := fakeMachine(t, map[string]string{
		tables + "modules.dep": "kernel/virtio_pci.ko: kernel/virtio_ring.ko\nkernel/virtio_ring.ko:\nkernel/virtio_blk.ko:\n" +
			"kernel/ext4.ko:\nkernel/crc32c_generic.ko:\nkernel/ipmi_devintf.ko:\nkernel/unused.ko:\n",
		tables + "modules.alias": "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias virtio:d00000002v* virtio_blk\n" +
			"alias fs-ext4 ext4\nalias pci:v00008086d*sv*sd*bc*sc*i* unused\n",
		tables + "modules.softdep":           "softdep ext4 pre: crc32c_generic\n",
		tables + "modules.load":              "ipmi_devintf\n",
		"sys/devices/pci0000:00/00/modalias": "pci:v00001AF4d00001001sv0sd0bc01sc00i00\n",
		"sys/devices/platform/x/modalias":    "acpi:PNP0C0A:\n",
	})
	r := &recorder{after: map[string]func(){}}
	r.after["virtio_pci"] = func() {
		if err := os.MkdirAll(filepath.Join(root, "sys/devices/pci0000:00/00/virtio0"), 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(root, "sys/devices/pci0000:00/00/virtio0/modalias"), []byte("virtio:d00000002v00001AF4\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	l, err := newLoader(loaderOptions{root: root, version: "6.1.0-test", dryRun: r.load})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	l.loadNamed(log)
	if got, want := l.coldplug(filepath.Join(root, "sys"), log), 3; got != want {
		t.Errorf("passes: got %d, want %d", got, want)
	}
	if err := l.load("fs-ext4"); err != nil {
		t.Errorf("load fs-ext4: %v", err)
	}
	if err := l.load("net-pf-44"); err != errNoModule {
		t.Errorf("load net-pf-44: got %v, want %v", err, errNoModule)
	}
	want := []string{"ipmi_devintf", "virtio_ring", "virtio_pci", "virtio_blk", "crc32c_generic", "ext4"}
	if diff := cmp.Diff(r.loaded, want); diff != "" {
		t.Errorf("loaded (-got +want):\n%s", diff)
	}
}

func TestAddedDevice(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00MODALIAS=pci:v1\x00SEQNUM=9\x00": "pci:v1",
		"remove@/devices/x\x00ACTION=remove\x00MODALIAS=pci:v1\x00":                             "",
		"add@/devices/x\x00ACTION=add\x00":                                                      "",
		"add@/x\x00ACTION=add\x00MODALIAS=" + strings.Repeat("a", maxModalias+1) + "\x00":       "",
		"": "",
	} {
		if got := addedDevice([]byte(message)); got != want {
			t.Errorf("addedDevice(%.40q): got %q, want %q", message, got, want)
		}
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	root := fakeMachine(t, map[string]string{"sys/firmware/efi/efivars/.keep": "", "proc/sys/kernel/printk": "7 7 7 7"})
	var got []string
	do := func(source, target, kind string, flags uintptr, data string) error {
		relative, err := filepath.Rel(root, target)
		if err != nil {
			return err
		}
		got = append(got, kind+" "+relative)
		return nil
	}
	if errs := mountAll(root, slices.Concat(earlyMounts, lateMounts(root)), do); len(errs) > 0 {
		t.Errorf("mount: %v", errs)
	}
	want := []string{"devtmpfs dev", "proc proc", "sysfs sys", "tmpfs run", "tmpfs tmp", "devpts dev/pts", "tmpfs dev/shm", "efivarfs sys/firmware/efi/efivars"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("mounts (-got +want):\n%s", diff)
	}
	setKernel(root)
	if got, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/printk")); err != nil || string(got) != "4 4 1 7\n" {
		t.Errorf("printk: got %q, %v", got, err)
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cmdline")
	for line, want := range map[string]slog.Level{"ingot.log=debug ingot.nonce=bad": slog.LevelDebug, "ingot.log=loud": slog.LevelInfo, "": slog.LevelInfo} {
		if err := os.WriteFile(path, []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := logLevel(path); got != want {
			t.Errorf("logLevel(%q): got %v, want %v", line, got, want)
		}
	}
}
