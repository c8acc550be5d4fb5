package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
		"includes": {map[string]string{
			"boot/grub/grub.cfg": strings.Repeat("source /1\n", 60), "1": strings.Repeat("source /2\n", 60),
			"2": strings.Repeat("source /3\n", 60), "3": "set a=b\n"}, "included"},
	} {
		if _, err := FindSystem([]string{disk(t, tc.files)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}
