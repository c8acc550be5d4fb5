package hwtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"context"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

func results(t *testing.T, test Test, h host.Host) []*hardware.TestResult {
	t.Helper()
	var out []*hardware.TestResult
	test.Execute(t.Context(), h, func(r *hardware.TestResult) { out = append(out, r) })
	return out
}

func TestEveryTestAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range All() {
		got := results(t, test, host.New(t.TempDir()))
		if len(got) == 0 || got[0].Test != test.Name || got[0].Verdict == passed {
			t.Errorf("%s on a machine without anything: got %v, want one result that is no pass", test.Name, got)
		}
	}
	broken := Test{Name: "broken", Limit: 1e9, Run: func(context.Context, host.Host, func(Finding)) error { panic("ouch") }}
	if got := results(t, broken, host.New("/")); len(got) != 1 || got[0].Verdict != failed || !strings.Contains(got[0].Detail, "ouch") {
		t.Errorf("panic: got %v, want a failure with its text", got)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	got, unknown := Choose([]string{"nic-link", "coffee"})
	if len(got) != 1 || got[0].Name != "nic-link" || len(unknown) != 1 {
		t.Errorf("got %v and %v", got, unknown)
	}
	if got, _ := Choose(nil); len(got) != len(All()) {
		t.Errorf("default: got %d tests, want %d", len(got), len(All()))
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	tested, err := testMemory(t.Context(), 32<<20)
	if err != nil || tested != 32<<20 {
		t.Errorf("got %d, %v, want 32 MiB tested", tested, err)
	}
	got := results(t, Test{Name: "memory-pattern", Limit: 60e9, Run: func(ctx context.Context, _ host.Host, found func(Finding)) error {
		return memoryPattern(ctx, plantMemory(t), found)
	}}, host.New("/"))
	if len(got) != 1 || got[0].Verdict != passed || got[0].Subject != "memory" {
		t.Errorf("got %v, want a pass", got)
	}
}

func plantMemory(t *testing.T) host.Host {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte("MemAvailable:  400000 kB\n"), 0o600))
	return host.New(root)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(path, make([]byte, 8<<20), 0o600))
	d := disk.Disk{Path: path, Info: &hardware.Disk{Serial: "S", SizeBytes: 8 << 20}}
	got, err := sample(t.Context(), d)
	if err != nil || len(got) != 5 || got[0].Value != 8<<20 {
		t.Errorf("got %v, %v, want 8 MiB read", got, err)
	}
	d.Info.SizeBytes = 64 << 20 // the device ends earlier than it says
	if _, err := sample(t.Context(), d); err == nil {
		t.Error("a disk that ends early: got nil, want an error")
	}
	d.Path += "gone"
	if _, err := sample(t.Context(), d); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a disk that is gone: got %v, want %v", err, os.ErrNotExist)
	}
}

func TestLink(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		up    bool
		speed string
		best  uint64
		want  hardware.TestVerdict
		text  string
	}{
		"down":    {false, "-1", 1000, notApplicable, "no link"},
		"unknown": {true, "-1", 0, notApplicable, "no speed"},
		"full":    {true, "1000", 1000, passed, ""},
		"slow":    {true, "100", 1000, passed, "could do 1000"},
		"any":     {true, "100000", 0, passed, "does not tell"},
	} {
		got := link("52:54:00:00:00:01", "eth0", tc.up, tc.speed, tc.best)
		if got.Verdict != tc.want || !strings.Contains(got.Detail, tc.text) {
			t.Errorf("%s: got %v %q, want %v with %q", name, got.Verdict, got.Detail, tc.want, tc.text)
		}
	}
}
