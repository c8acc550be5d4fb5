package main

import (
	"errors"
	"fmt"
	"strings"
)

// goals compares the rows with what was promised, one sentence each. A goal
// that is missed is a number to read, no failure of the benchmark.
func goals(rows []row) []string {
	var out []string
	say := func(what string, got *float64, goal float64) {
		switch {
		case got == nil:
			out = append(out, fmt.Sprintf("goal  not measured: %s", what))
		case *got <= goal:
			out = append(out, fmt.Sprintf("goal  met: %s: %.2f, at most %.2f wanted", what, *got, goal))
		default:
			out = append(out, fmt.Sprintf("goal  NOT MET: %s: %.2f, at most %.2f wanted", what, *got, goal))
		}
	}
	get := func(image, dest, writer string, value func(*row) *float64) *float64 {
		if r := find(rows, image, dest, writer); r != nil {
			return value(r)
		}
		return nil
	}
	flushed := func(r *row) *float64 { return r.RatioToZstd }
	say("sparse image, RAM disk, flushed, of the zstd pipe", get("sparse", "ram", ours, flushed), 0.15)
	say("sparse image, disk, flushed, of the zstd pipe", get("sparse", "disk", ours, flushed), 0.22)
	for _, dest := range []string{"ram", "disk"} {
		say("dense image, "+dest+", flushed, of the zstd pipe", get("dense", dest, ours, flushed), 0.65)
		say("dense image, "+dest+", verified, of the zstd pipe", get("dense", dest, ours, func(r *row) *float64 { return r.VerifiedToZstd }), 1.1)
	}
	for _, image := range []string{"sparse", "dense"} {
		for _, dest := range []string{"ram", "disk"} {
			what := image + " image, " + dest
			say(what+", flushed, of the limit", get(image, dest, ours, func(r *row) *float64 { return r.RatioToLimit }), 1.15)
			say(what+", peak MiB", get(image, dest, ours, func(r *row) *float64 { return &r.PeakMiB }), 128)
			fresh := find(rows, image, dest, ours)
			say(what+", again over a used system, of a fresh write's time", of(fresh, find(rows, image, dest, oursAgain), wallTime), 0.5)
			say(what+", again over a used system, of its bytes written", of(fresh, find(rows, image, dest, oursAgain), bytesWritten), 0.1)
			say(what+", neighbouring release, of its bytes written", of(fresh, find(rows, image, dest, oursNeighbour), bytesWritten), 0.6)
			say(what+", neighbouring release, of its bytes fetched", of(fresh, find(rows, image, dest, oursNeighbour), bytesFetched), 0.6)
		}
	}
	return out
}

// wrong is an error if our writer left something else than the image: that is
// no number any more.
func wrong(rows []row) error {
	var errs []error
	for _, r := range rows {
		if strings.HasPrefix(r.Writer, ours) && r.Correct != nil && !*r.Correct {
			errs = append(errs, fmt.Errorf("%s left something else than the image (%s to %s)", r.Writer, r.Image, r.Dest))
		}
	}
	return errors.Join(errs...)
}

func wallTime(r *row) *float64 { return &r.WallS }

func bytesWritten(r *row) *float64 { return float(r.BytesWritten) }

func bytesFetched(r *row) *float64 { return float(r.BytesFetched) }

func float(v *int64) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}

// of is the value of r as a part of that of base.
func of(base, r *row, value func(*row) *float64) *float64 {
	if base == nil || r == nil {
		return nil
	}
	a, b := value(r), value(base)
	if a == nil || b == nil || *b == 0 {
		return nil
	}
	v := *a / *b
	return &v
}
