package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestClear: what a lab left is removed, also one that never came up; what is no
// lab's is not.
func TestClear(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file string
		ok   bool
	}{"a lab": {lockName, true}, "one that ended while it was starting": {logName, true}, "somebody's letters": {"letters.txt", false}} {
		dir := filepath.Join(t.TempDir(), "lab")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tc.file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		err := Clear(dir)
		if _, gone := os.Stat(dir); (err == nil) != tc.ok || os.IsNotExist(gone) != tc.ok {
			t.Errorf("%s: %v, %v", name, err, gone)
		}
	}
}

// TestCheck: what is wanting is said before anything is made.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range []string{"ingotd", "vmlinuz", "initramfs.zst"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	specs, err := Specs(Kinds())
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Dir: "/l", Programs: dir, BootDir: dir, Machines: specs}
	for name, tc := range map[string]struct {
		change func(*Config)
		word   string
	}{
		"all is there":    {func(*Config) {}, ""},
		"no boot files":   {func(c *Config) { c.BootDir = "/nonexistent" }, "make boot"},
		"no machine":      {func(c *Config) { c.Machines = nil }, "1 to 100"},
		"a long way down": {func(c *Config) { c.Dir = "/" + strings.Repeat("x", 100) }, "--dir"},
	} {
		c := good
		tc.change(&c)
		if err := c.Check(); (err == nil) != (tc.word == "") || err != nil && !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(good.Dir); err == nil {
		t.Errorf("Check made %s", good.Dir)
	}
}
