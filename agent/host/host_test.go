package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a root whose name holds the characters of a pattern.
func tree(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := filepath.Join(t.TempDir(), "a[b]*c")
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return New(root)
}

func TestReads(t *testing.T) {
	t.Parallel()
	h := tree(t, map[string]string{
		"sys/block/sda/size": " 2048\n\x00", "sys/block/sdb/size": "1", "sys/block/loop0/x": "",
		"big": strings.Repeat("x", MaxFile+1), "secret/../up": "x",
	})
	if got, err := h.ReadString("/sys/block/sda/size"); err != nil || got != "2048" {
		t.Errorf("ReadString: got %q, %v, want 2048", got, err)
	}
	if _, err := h.ReadFile("/big"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("big file: got %v, want %v", err, ErrTooLarge)
	}
	if _, err := h.ReadFile("/sys/gone"); !IsAbsent(err) {
		t.Errorf("absent file: got %v, want an absent error", err)
	}
	got, err := h.Glob("/sys/block/*/size")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, []string{"/sys/block/sda/size", "/sys/block/sdb/size"}); diff != "" {
		t.Errorf("Glob (-got +want):\n%s", diff)
	}
	names, err := h.ReadDir("/sys/block")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names, []string{"loop0", "sda", "sdb"}); diff != "" {
		t.Errorf("ReadDir (-got +want):\n%s", diff)
	}
	if got, want := h.Path("/../../etc/passwd"), filepath.Join(h.root, "etc/passwd"); got != want {
		t.Errorf("Path: got %s, want %s", got, want)
	}
	if err := h.WriteFile("/sys/new", nil); !IsAbsent(err) {
		t.Errorf("write to an absent file: got %v, want an absent error", err)
	}
	if err := h.WriteFile("/sys/block/sdb/size", []byte("7")); err != nil {
		t.Error(err)
	}
	if got, _ := h.ReadString("/sys/block/sdb/size"); got != "7" {
		t.Errorf("after WriteFile: got %q, want 7", got)
	}
	if got, want := New("/").Path("/proc/x"), "/proc/x"; got != want {
		t.Errorf("real machine: got %s, want %s", got, want)
	}
	if found, err := New("/").Glob("/proc/self/stat"); err != nil || len(found) != 1 || found[0] != "/proc/self/stat" {
		t.Errorf("Glob on the real machine: got %v, %v", found, err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	h := New("/")
	out, err := h.Run(t.Context(), "sh", "-c", `echo "$1"; env | wc -l`, "x", "a b")
	if err != nil || !strings.HasPrefix(string(out.Stdout), "a b\n") {
		t.Errorf("Run: got %q, %v", out.Stdout, err)
	}
	var exit *ExitError
	_, err = h.Run(t.Context(), "sh", "-c", "echo broken >&2; exit 3")
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Complaint != "broken" {
		t.Errorf("failing program: got %v", err)
	}
	if _, err := h.Run(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("absent program: got %v, want %v", err, exec.ErrNotFound)
	}
	out, err = h.Run(t.Context(), "head", "-c", "2000000", "/dev/zero")
	if err != nil || len(out.Stdout) != MaxOutput || !out.Truncated {
		t.Errorf("much output: got %d bytes, truncated %v, %v", len(out.Stdout), out.Truncated, err)
	}
}

func TestRunKillsTheGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := New("/").Run(ctx, "sh", "-c", "sleep 60 & sleep 60")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v: a child was left that held the output open", took)
	}
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := New("/").Run(cancelled, "true"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the start: got %v, want %v", err, context.Canceled)
	}
}

func TestLoadModule(t *testing.T) {
	t.Parallel()
	var got []string
	h := New(t.TempDir()).WithRunner(func(_ context.Context, name string, args ...string) (Output, error) {
		got = append([]string{name}, args...)
		return Output{}, nil
	})
	if err := h.LoadModule(t.Context(), "efivarfs"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, []string{"modprobe", "--", "efivarfs"}); diff != "" {
		t.Errorf("program (-got +want):\n%s", diff)
	}
}
