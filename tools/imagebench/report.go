package main

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// row is what the rounds of one writer came to: medians.
type row struct {
	Image     string `json:"image"`
	Dest      string `json:"dest"`
	Writer    string `json:"writer"`
	Transport string `json:"transport"`
	// WallS is from the first process's start until everything is flushed.
	WallS float64 `json:"wall_s"`
	// VerifiedS is until everything is read back; null for who does not.
	VerifiedS *float64 `json:"verified_s"`
	// Ratios of WallS; null where there is nothing to compare with.
	RatioToZstd  *float64 `json:"ratio_to_zstd"`
	RatioToLimit *float64 `json:"ratio_to_limit"`
	CPUS         float64  `json:"cpu_s"`
	PeakMiB      float64  `json:"peak_mib"`
	// BytesWritten of content; null where it cannot be told.
	BytesWritten *int64 `json:"bytes_written"`

	VerifiedToZstd  *float64 `json:"verified_to_zstd"`
	VerifiedToLimit *float64 `json:"verified_to_limit"`
	BytesFetched    *int64   `json:"bytes_fetched"`
	WallMinS        float64  `json:"wall_min_s"`
	WallMaxS        float64  `json:"wall_max_s"`
	Rounds          int      `json:"rounds"`
	// Correct: the target was the image, byte for byte, in the first round.
	Correct *bool `json:"correct"`
}

// limit is the least time that the legs allow on these cores.
type limit struct {
	Image string             `json:"image"`
	Dest  string             `json:"dest"`
	Legs  map[string]legTime `json:"legs"`
	// FlushedS is the larger of the slowest leg and all CPU work divided by the
	// cores; Bound names which. VerifiedS adds the same of reading back.
	FlushedS  float64 `json:"flushed_s"`
	Bound     string  `json:"bound"`
	VerifiedS float64 `json:"verified_s"`
}

func (b *bench) limits() []limit {
	var all []limit
	for _, s := range b.legs {
		same := func(l limit) bool { return l.Image == s.image && l.Dest == s.dest }
		if slices.ContainsFunc(all, same) {
			continue
		}
		l := limit{Image: s.image, Dest: s.dest, Legs: map[string]legTime{}}
		for _, name := range legs {
			mine := slices.DeleteFunc(slices.Clone(b.legs), func(o legSample) bool { return o.leg != name || !same(limit{Image: o.image, Dest: o.dest}) })
			l.Legs[name] = legTime{
				WallS: median(mine, func(o legSample) float64 { return o.WallS }),
				CPUS:  median(mine, func(o legSample) float64 { return o.CPUS }),
			}
		}
		l.FlushedS, l.Bound = bound(l.Legs, legs[:flushLegs])
		more, _ := bound(l.Legs, legs[flushLegs:])
		l.VerifiedS = l.FlushedS + more
		all = append(all, l)
	}
	return all
}

// bound is the larger of the slowest leg and all CPU seconds over the cores.
func bound(times map[string]legTime, names []string) (seconds float64, name string) {
	var cpu float64
	for _, n := range names {
		cpu += times[n].CPUS
		if times[n].WallS > seconds {
			seconds, name = times[n].WallS, n
		}
	}
	if shared := cpu / float64(runtime.NumCPU()); shared > seconds {
		return shared, "cpu"
	}
	return seconds, name
}

// rows in the order in which writers first ran.
func (b *bench) rows(limits []limit) []row {
	var rows []row
	for _, s := range b.runs {
		same := func(o sample) bool { return o.image == s.image && o.dest == s.dest && o.writer == s.writer }
		if slices.ContainsFunc(rows, func(r row) bool { return same(sample{image: r.Image, dest: r.Dest, writer: r.Writer}) }) {
			continue
		}
		rows = append(rows, newRow(slices.DeleteFunc(slices.Clone(b.runs), func(o sample) bool { return !same(o) })))
	}
	for i := range rows {
		rows[i].compare(rows, limits)
	}
	return rows
}

func newRow(all []sample) row {
	s := all[0]
	wall := func(s sample) float64 { return s.wall.Seconds() }
	r := row{
		Image: s.image, Dest: s.dest, Writer: s.writer, Transport: s.transport, Rounds: len(all), Correct: s.correct,
		WallS: median(all, wall), CPUS: median(all, func(s sample) float64 { return s.cpu.Seconds() }),
		PeakMiB: median(all, func(s sample) float64 { return float64(s.peak) / (1 << 20) }),
	}
	byWall := func(a, b sample) int { return cmp.Compare(a.wall, b.wall) }
	r.WallMinS, r.WallMaxS = wall(slices.MinFunc(all, byWall)), wall(slices.MaxFunc(all, byWall))
	if s.verified > 0 {
		verified := median(all, func(s sample) float64 { return s.verified.Seconds() })
		r.VerifiedS = &verified
		fetched := int64(median(all, func(s sample) float64 { return float64(s.fetched) }))
		r.BytesFetched = &fetched
	}
	if s.written > 0 || s.verified > 0 {
		written := int64(median(all, func(s sample) float64 { return float64(s.written) }))
		r.BytesWritten = &written
	}
	return r
}

func (r *row) compare(rows []row, limits []limit) {
	ratio := func(a, b float64) *float64 {
		if b == 0 {
			return nil
		}
		v := a / b
		return &v
	}
	if z := find(rows, r.Image, r.Dest, reference); z != nil {
		r.RatioToZstd = ratio(r.WallS, z.WallS)
		if r.VerifiedS != nil {
			r.VerifiedToZstd = ratio(*r.VerifiedS, z.WallS)
		}
	}
	for _, l := range limits {
		if l.Image == r.Image && l.Dest == r.Dest {
			r.RatioToLimit = ratio(r.WallS, l.FlushedS)
			if r.VerifiedS != nil {
				r.VerifiedToLimit = ratio(*r.VerifiedS, l.VerifiedS)
			}
		}
	}
}

func find(rows []row, image, dest, writer string) *row {
	for i := range rows {
		if r := &rows[i]; r.Image == image && r.Dest == dest && r.Writer == writer {
			return r
		}
	}
	return nil
}

func median[T any](all []T, value func(T) float64) float64 {
	if len(all) == 0 {
		return 0
	}
	values := make([]float64, 0, len(all))
	for _, v := range all {
		values = append(values, value(v))
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// save leaves the rows in path, and the limits with all their legs beside it.
func save(path string, rows []row, limits []limit) error {
	if err := saveJSON(path, rows); err != nil {
		return err
	}
	ext := filepath.Ext(path)
	return saveJSON(path[:len(path)-len(ext)]+"-limit"+ext, limits)
}

func saveJSON(path string, what any) error {
	data, err := json.MarshalIndent(what, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
