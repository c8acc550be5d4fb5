package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test's own program be the writer and the legs, as the
// command's is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "write" || os.Args[1] == "leg") {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestShort runs all of it with small images: our writer as a process beside
// dd, which every Debian has, in the place of the peers.
func TestShort(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o, err := parseOptions([]string{"-short", "-dir", dir, "-dests", "disk", "-dirty", "sparse"})
	if err != nil {
		t.Fatal(err)
	}
	gzipPipe := peers()[1]
	gzipPipe.stages = func(p place) [][]string {
		return [][]string{{"cat", p.path + ".raw.gz"}, {"gzip", "-dc"}, dd(p.dest)}
	}
	b := newBench(self, o, slog.New(slog.NewTextHandler(io.Discard, nil)), []peer{gzipPipe})
	if err := b.run(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "imaging.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range rows {
		for _, field := range []string{"image", "dest", "writer", "transport", "wall_s", "verified_s", "ratio_to_zstd", "ratio_to_limit", "cpu_s", "peak_mib", "bytes_written"} {
			if _, ok := r[field]; !ok {
				t.Errorf("row %v has no %s", r, field)
			}
		}
		got[strings.Join([]string{r["image"].(string), r["dest"].(string), r["writer"].(string)}, " ")] = r["correct"].(bool)
	}
	want := map[string]bool{"sparse disk-dirty ingot": true, "sparse disk-dirty gzip-pipe": false}
	for _, image := range []string{"sparse", "dense"} {
		for _, writer := range []string{ours, oursAgain, oursNeighbour, oursRebuilt, "gzip-pipe"} {
			want[image+" disk "+writer] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows and whether they are correct (-want +got):\n%s", diff)
	}
}

func TestPipelineFails(t *testing.T) {
	t.Parallel()
	for name, stages := range map[string][][]string{
		"first stage": {{"false"}, {"cat"}},
		"last stage":  {{"true"}, {"false"}},
		"no program":  {{"sleep", "60"}, {"no-such-program"}},
	} {
		if _, err := runPipeline(t.Context(), stages); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	u, err := runPipeline(t.Context(), [][]string{{"echo", "a b"}, {"tr", "b", "c"}})
	if got, want := string(u.out), "a c\n"; err != nil || got != want {
		t.Errorf("got %q, error %v, want %q", got, err, want)
	}
}

func TestRowsAreMediansAndRatios(t *testing.T) {
	t.Parallel()
	b := &bench{}
	for round, s := range []int{3, 1, 2} {
		for writer, factor := range map[string]time.Duration{ours: 1, reference: 4} {
			x := sample{image: "i", dest: "d", writer: writer, round: round, wall: time.Duration(s) * factor * time.Second, peak: 1 << 20, written: int64(s)}
			if writer == ours {
				x.verified = 2 * x.wall
			}
			b.runs = append(b.runs, x)
		}
		for _, leg := range legs {
			b.legs = append(b.legs, legSample{image: "i", dest: "d", leg: leg, legTime: legTime{WallS: float64(s) / 2, CPUS: 0}})
		}
	}
	r := find(b.rows(b.limits()), "i", "d", ours)
	type numbers struct{ Wall, Verified, Zstd, VerifiedZstd, Limit, VerifiedLimit, Peak, Min, Max float64 }
	got := numbers{r.WallS, *r.VerifiedS, *r.RatioToZstd, *r.VerifiedToZstd, *r.RatioToLimit, *r.VerifiedToLimit, r.PeakMiB, r.WallMinS, r.WallMaxS}
	want := numbers{2, 4, 0.25, 0.5, 2, 2, 1, 1, 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	seconds, name := bound(map[string]legTime{"a": {WallS: 2, CPUS: 1000}, "b": {WallS: 3, CPUS: 0}}, []string{"b"})
	if seconds != 3 || name != "b" {
		t.Errorf("got %v by %s, want 3 by b", seconds, name)
	}
	if _, name = bound(map[string]legTime{"a": {WallS: 2, CPUS: 100000}}, []string{"a"}); name != "cpu" {
		t.Errorf("got %s, want cpu", name)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	zstd := 0.2
	rows := []row{{Image: "sparse", Dest: "ram", Writer: ours, RatioToZstd: &zstd}, {Image: "sparse", Dest: "disk", Writer: ours, RatioToZstd: &zstd}}
	got := goals(rows)[:3]
	want := []string{
		"goal  NOT MET: sparse image, RAM disk, flushed, of the zstd pipe: 0.20, at most 0.15 wanted",
		"goal  met: sparse image, disk, flushed, of the zstd pipe: 0.20, at most 0.22 wanted",
		"goal  not measured: dense image, ram, flushed, of the zstd pipe",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	no := false
	rows[0].Correct = &no
	if err := wrong(rows); err == nil {
		t.Error("a wrong image: got no error")
	}
}
