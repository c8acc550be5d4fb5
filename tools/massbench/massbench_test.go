package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets this binary be the machines and the server, too.
func TestMain(m *testing.M) {
	if role := os.Getenv("MASSBENCH_ROLE"); role != "" {
		if err := run(context.Background(), []string{role}); err != nil {
			fmt.Fprintln(os.Stderr, "massbench:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestShort measures four machines whose processes limit themselves: nothing is
// broken, and what has to be in the file is there.
func TestShort(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mass.json")
	if err := run(t.Context(), []string{"-short", "-shape", "process", "-dir", t.TempDir(), "-json", file}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 5 {
		t.Errorf("got %d rows, want 3 and two of one machine alone", len(rows))
	}
	for _, r := range rows {
		for _, key := range []string{"design", "n", "uplink", "slow", "killed", "last_over_one", "egress_images", "server_peak_mib"} {
			if _, ok := r[key]; !ok {
				t.Errorf("a row has no %q: %v", key, r)
			}
		}
		if egress := r["egress_images"].(float64); egress < 1 || egress > 5 {
			t.Errorf("egress of %.2f images: %v", egress, r)
		}
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	rows := []row{
		{Design: byRelay, N: 64, Uplink: 1, Images: 1, LastOverOne: 1.2, EgressImages: 5, ServerPeakMiB: 20},
		{Design: byRelay, N: 64, Uplink: 1, Slow: 2, Images: 1, LastOverOne: 1.5, EgressImages: 1},
	}
	got := goals(rows)
	want := []string{
		"goal met      64 machines, uplink 1x: last healthy one                     1.20, at most 1.50 wanted",
		"goal NOT MET  64 machines, uplink 1x: egress in images                     5.00, at most 4.00 wanted",
		"goal met      64 machines, uplink 1x: server's memory, MiB                20.00, at most 128.00 wanted",
		"goal met      relay n=64 uplink=1x slow=2: cost to the others              1.25, at most 1.25 wanted",
		"goal met      relay n=64 uplink=1x slow=2: egress in images                1.00, at most 4.00 wanted",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	for _, s := range append(settings(false), settings(true)...) {
		slow, dying := 0, 0
		for i := range s.n {
			isSlow, dies := s.victim(i)
			if isSlow {
				slow++
			}
			if dies {
				dying++
			}
		}
		if slow != s.slow || dying != s.killed {
			t.Errorf("%s: %d slow and %d dying, want %d and %d", s.name(), slow, dying, s.slow, s.killed)
		}
	}
}
