package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
)

func stateWord(s operator.State) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATE_"))
}

func (d *demo) name(id, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[id] = name
}

func (d *demo) say(format string, args ...any) {
	d.line("", "", fmt.Sprintf(format, args...))
}

func (d *demo) line(machine, kind, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.cfg.Out, "%7.1f s  %-6s %-10s %s\n", time.Since(d.began).Seconds(), machine, kind, text)
}

// follow prints what happens to the machines until ctx ends.
func (d *demo) follow(ctx context.Context) {
	watch, err := operator.NewEventServiceClient(d.conn).EventWatch(ctx, &operator.EventWatchRequest{})
	for err == nil {
		var e *operator.Event
		if e, err = watch.Recv(); err == nil {
			d.mu.Lock()
			name := d.names[e.GetMachineId()]
			d.mu.Unlock()
			d.line(name, e.GetKind(), brief(e.GetText()))
		}
	}
	if ctx.Err() == nil {
		d.say("the events cannot be followed any more: %v", err)
	}
}

// judge says what of the promise did not hold: one POST from the first power-on
// to the proof of life, and each machine where it should be.
func judge(machines []Machine) []error {
	var problems []error
	for i, m := range machines {
		want := "deployed"
		if i == 0 {
			want = "ready"
		}
		if m.State != want {
			problems = append(problems, fmt.Errorf("%s is %s, not %s", m.Name, m.State, want))
		}
		if m.Kexec && m.POSTs != 1 {
			problems = append(problems, fmt.Errorf("%s needed %d POSTs, not 1", m.Name, m.POSTs))
		}
	}
	return problems
}

func (d *demo) table(r Result) {
	fmt.Fprintln(d.cfg.Out)
	w := tabwriter.NewWriter(d.cfg.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tFIRMWARE\tSTATE\tPOSTS\tENTERED BY\tCOMMISSION\tDEPLOY\tFLUSHED\tVERIFIED\tRELEASE\tFETCHED\tWRITTEN\tIMAGE\tWARNINGS")
	for _, m := range r.Machines {
		entered := "firmware"
		if m.Kexec {
			entered = "kexec"
		}
		digest := m.ImageDigest
		if len(digest) > 19 {
			digest = digest[:19]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f MiB\t%.0f MiB\t%s\t%d\n", m.Name, m.Firmware, m.State, m.POSTs, entered,
			phase(m, "commission"), phase(m, "deploy"), phase(m, "flushed"), phase(m, "verified"), phase(m, "release"),
			mib(m.BytesFetched), mib(m.BytesWritten), digest, len(m.Warnings))
	}
	_ = w.Flush() // the terminal's own affair
	for _, m := range r.Machines {
		for _, text := range m.Warnings {
			fmt.Fprintf(d.cfg.Out, "warning on %s: %s\n", m.Name, text)
		}
	}
	fmt.Fprintf(d.cfg.Out, "kernel and initramfs together: %.1f MiB; whole run %.0f s\n", mib(uint64(r.BootPayloadBytes)), time.Since(d.began).Seconds())
}

func phase(m Machine, name string) string {
	if s, ok := m.Phases[name]; ok {
		return fmt.Sprintf("%.1f s", s)
	}
	return "-"
}

// payload is what travels to every machine at a boot.
func payload(bootDir string) int64 {
	var sum int64
	for _, name := range []string{"vmlinuz", "initramfs.zst"} {
		if info, err := os.Stat(filepath.Join(bootDir, name)); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

func (d *demo) farewell() {
	fmt.Fprintf(d.cfg.Out, `
The lab stays up. Worth typing next:
  export INGOT_CONTEXT=%s
  bin/ingot machine list
  bin/ingot machine deploy %s --image debian-12 --wait
  bin/ingot lab console %s
  bin/ingot lab down
`, d.status.Context, d.status.Machines[0].Name, d.status.Machines[0].Name)
}

// brief keeps a line on a terminal's line; `ingot events` has it whole.
func brief(text string) string {
	const most = 90
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " …"
}
