package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// row is one line of the result.
type row struct {
	Design string  `json:"design"`
	N      int     `json:"n"`
	Uplink float64 `json:"uplink"` // of the server, in links of a machine
	Slow   int     `json:"slow"`   // machines with an eighth of a link
	Killed int     `json:"killed"`
	Cut    bool    `json:"cut"` // those were cut off, not killed

	LastOverOne   float64 `json:"last_over_one"`
	EgressImages  float64 `json:"egress_images"` // with two images: the mean
	ServerPeakMiB float64 `json:"server_peak_mib"`

	Images      int     `json:"images"` // at once
	ImageMiB    float64 `json:"image_mib"`
	LastSeconds float64 `json:"last_s"`
	CPUShare    float64 `json:"cpu_share"` // of the computer, that these processes used
	Busy        float64 `json:"busy"`      // share of the computer that was busy
	Reforms     int     `json:"reforms"`   // links that the plan cut
	Shaped      string  `json:"shaped"`    // by tc or by the process
}

func (r *row) setting() setting {
	s := setting{design: r.Design, n: r.N, uplink: r.Uplink, slow: r.Slow, killed: r.Killed, cut: r.Cut, images: r.Images}
	if s.images == 1 {
		s.images = 0
	}
	return s
}

func (r *row) String() string {
	return fmt.Sprintf("%-42s last/one %6.2f   %6.1f s   egress %6.2f images   server %5.1f MiB   cpu %3.0f %% (computer %3.0f %%)   re-formed %d",
		r.setting().name(), r.LastOverOne, r.LastSeconds, r.EgressImages, r.ServerPeakMiB, 100*r.CPUShare, 100*r.Busy, r.Reforms)
}

// report writes the rows and says which goals are met.
func report(out io.Writer, rows []row, file string) error {
	for _, line := range goals(rows) {
		fmt.Fprintln(out, line)
	}
	data, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, "rows are in", file)
	return nil
}

// goals compares the rows with what was promised. A goal that is missed is a
// number to read, no failure of the benchmark.
func goals(rows []row) []string {
	by := map[setting]*row{}
	for i := range rows {
		by[rows[i].setting()] = &rows[i]
	}
	var out []string
	say := func(what string, s setting, got func(r *row) float64, most float64) {
		r := by[s]
		if r == nil {
			return
		}
		word := "met    "
		if got(r) > most {
			word = "NOT MET"
		}
		out = append(out, fmt.Sprintf("goal %s  %-58s %6.2f, at most %.2f wanted", word, what, got(r), most))
	}
	last := func(r *row) float64 { return r.LastOverOne }
	egress := func(r *row) float64 { return r.EgressImages }
	peak := func(r *row) float64 { return r.ServerPeakMiB }
	for _, uplink := range []float64{1, 10} {
		clean := setting{design: byRelay, n: 64, uplink: uplink}
		say(fmt.Sprintf("64 machines, uplink %gx: last healthy one", uplink), clean, last, 1.5)
		say(fmt.Sprintf("64 machines, uplink %gx: egress in images", uplink), clean, egress, 4)
		say(fmt.Sprintf("64 machines, uplink %gx: server's memory, MiB", uplink), clean, peak, 128)
		for _, harm := range []setting{{slow: 2}, {killed: 9}, {killed: 9, cut: true}, {slow: 2, killed: 9}} {
			for _, n := range []int{32, 64} {
				s := setting{design: byRelay, n: n, uplink: uplink, slow: harm.slow, killed: harm.killed, cut: harm.cut}
				base := by[setting{design: byRelay, n: n, uplink: uplink}]
				if base == nil {
					continue
				}
				say(s.name()+": cost to the others", s, func(r *row) float64 { return r.LastOverOne / base.LastOverOne }, 1.25)
				say(s.name()+": egress in images", s, egress, 4)
			}
		}
	}
	say("two images at once, uplink 10x: last healthy one", setting{design: byRelay, n: 64, uplink: 10, images: 2}, last, 1.5)
	say("two images at once, uplink 1x: last one, of twice one", setting{design: byRelay, n: 64, uplink: 1, images: 2}, func(r *row) float64 { return r.LastOverOne / 2 }, 1.5)
	return out
}
