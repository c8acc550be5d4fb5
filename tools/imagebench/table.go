package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printReport writes the table, the legs, and whether the goals are met.
func printReport(w io.Writer, rows []row, limits []limit, notes, goals []string) error {
	out := &strings.Builder{}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	last := ""
	for _, r := range rows {
		if here := r.Image + " to " + r.Dest; here != last {
			t.Flush()
			fmt.Fprintf(out, "\n%s\n", here)
			fmt.Fprintln(t, "writer\twall s\tmin..max\tverified s\t/zstd\tverified /zstd\t/limit\tCPU s\tpeak MiB\twritten MiB\tcorrect\t")
			last = here
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f..%.2f\t%s\t%s\t%s\t%s\t%.2f\t%.0f\t%s\t%s\t\n", r.Writer, r.WallS, r.WallMinS, r.WallMaxS,
			number(r.VerifiedS), number(r.RatioToZstd), number(r.VerifiedToZstd), number(r.RatioToLimit), r.CPUS, r.PeakMiB, mebibytes(r.BytesWritten), yesNo(r.Correct))
	}
	t.Flush()
	for _, l := range limits {
		fmt.Fprintf(out, "\nlimit of %s to %s: %.2f s flushed (%s), %.2f s verified; legs alone (wall s, CPU s):", l.Image, l.Dest, l.FlushedS, l.Bound, l.VerifiedS)
		for _, name := range legs {
			fmt.Fprintf(out, " %s %.2f %.2f;", name, l.Legs[name].WallS, l.Legs[name].CPUS)
		}
	}
	fmt.Fprintln(out)
	for _, n := range notes {
		fmt.Fprintln(out, "note:", n)
	}
	fmt.Fprintln(out)
	for _, g := range goals {
		fmt.Fprintln(out, g)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

func mebibytes(v *int64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(*v)/(1<<20))
}

func yesNo(v *bool) string {
	switch {
	case v == nil:
		return "-"
	case *v:
		return "yes"
	}
	return "NO"
}
