package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
)

// TestPipesInAnImage: opening a named pipe waits for a writer unless told not to.
func TestPipesInAnImage(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, path := range []string{"boot/grub/grub.cfg", "loader/entries", "loader/loader.conf", "loader/entries/a.conf"} {
			mount := t.TempDir()
			full := filepath.Join(mount, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Error(err)
			}
			if err := unix.Mkfifo(full, 0o644); err != nil {
				t.Error(err)
			}
			if s, err := FindSystem([]string{mount}); err == nil {
				t.Errorf("pipe at %s: got %+v, want an error", path, s)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a pipe in the image is still waited for")
	}
}

// TestScriptsThatGrow: what a script may ask for is bounded, however few bytes
// it has itself.
func TestScriptsThatGrow(t *testing.T) {
	t.Parallel()
	long := "set a=" + strings.Repeat("x", 32<<10) + "\n"
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"variables": {map[string]string{"boot/grub/grub.cfg": long + "menuentry x {\nlinux /k" + strings.Repeat(" $a", 3000) + "\n}\n"}, "variables put in"},
		"depth":     {map[string]string{"boot/grub/grub.cfg": "if [ a ]\n" + strings.Repeat("then ", 200_000)}, "right behind"},
		"includes": {map[string]string{
			"boot/grub/grub.cfg": strings.Repeat("source /1\n", 60), "1": strings.Repeat("source /2\n", 60),
			"2": strings.Repeat("source /3\n", 60), "3": "set a=b\n"}, "included"},
	} {
		if _, err := FindSystem([]string{disk(t, tc.files)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}

// TestRoomFor: an initrd that does not fit into the memory of a small machine is
// refused before it is read.
func TestRoomFor(t *testing.T) {
	t.Parallel()
	mount := disk(t, map[string]string{"k": "kernel", "i": ""})
	if err := os.Truncate(filepath.Join(mount, "i"), 200<<20); err != nil { // a hole
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kib  string
		fits bool
	}{{"500000", false}, {"700000", true}, {"nonsense", true}} {
		h := host.New(disk(t, map[string]string{"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: " + tc.kib + " kB\n"}))
		if err := roomFor(h, []string{mount}, []string{"/k", "/i"}); (err == nil) != tc.fits {
			t.Errorf("%s KiB: got %v, want that it fits: %v", tc.kib, err, tc.fits)
		}
	}
	h := host.New(disk(t, map[string]string{"proc/meminfo": "MemAvailable: 500000 kB\n"}))
	err := LoadSystem(t.Context(), h, []string{mount}, System{Kernel: "/k", Initrds: []string{"/i"}})
	if err == nil || !strings.Contains(err.Error(), "free memory") {
		t.Errorf("got %v, want a refusal for want of memory", err)
	}
}
