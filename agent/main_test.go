package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/proto/agent"
)

func TestClockTarget(t *testing.T) {
	t.Parallel()
	script := time.Unix(1_800_000_000, 0)
	for name, tc := range map[string]struct {
		off  time.Duration
		step bool
	}{
		"good": {0, false}, "loader took its time": {3 * time.Minute, false},
		"lags": {-2 * time.Minute, true}, "years ago": {-90000 * time.Hour, true}, "years ahead": {90000 * time.Hour, true},
	} {
		target, _ := clockTarget(script, 10*time.Second, script.Add(10*time.Second+tc.off))
		if got := !target.IsZero(); got != tc.step {
			t.Errorf("%s: step: got %v, want %v", name, got, tc.step)
		}
		if tc.step && !target.Equal(script.Add(10*time.Second)) {
			t.Errorf("%s: got %v", name, target)
		}
	}
}

func TestHardwareClock(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", -3600)
	got := rtcTime(time.Date(2026, time.December, 31, 23, 59, 59, 600e6, zone))
	if want := (unix.RTCTime{Sec: 0, Min: 0, Hour: 1, Mday: 1, Mon: 0, Year: 127}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := setRTC(filepath.Join(t.TempDir(), "rtc0"), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a machine without one: got %v", err)
	}
	if err := setRTC(os.DevNull, time.Now()); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("what is no clock: got %v, want %v", err, unix.ENOTTY)
	}
}

func TestConsoleShowsTheNextStep(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c := newConsole(&out)
	s := session.Status{Controller: "10.0.0.1:1", MachineID: "m1", MachineName: "k3f9", Connected: true, State: "enrolled",
		NextStep: "ingot machine approve k3f9", Problem: "\x1b[2J\u009b2J"}
	c.show(s)
	c.show(s)
	if got := strings.Count(out.String(), "ingot machine approve k3f9"); got != 1 {
		t.Errorf("next step: got it %d times, want once:\n%s", got, out.String())
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b") {
		t.Error("a control character reached the console")
	}
}

func TestPlansOfOrders(t *testing.T) {
	t.Parallel()
	m := &machine{host: host.New(t.TempDir()), log: slog.New(slog.DiscardHandler)}
	for name, tc := range map[string]struct {
		order *agent.Order
		after job.After
		fails bool
	}{
		"reboot":    {&agent.Order{Job: &agent.Order_Power{Power: &agent.PowerJob{Action: agent.PowerJob_ACTION_REBOOT}}}, job.Reboot, false},
		"power off": {&agent.Order{Job: &agent.Order_Power{Power: &agent.PowerJob{Action: agent.PowerJob_ACTION_POWER_OFF}}}, job.PowerOff, false},
		"no action": {&agent.Order{Job: &agent.Order_Power{Power: &agent.PowerJob{}}}, "", true},
		"no job":    {&agent.Order{}, "", true},
		"no disks":  {&agent.Order{Job: &agent.Order_Erase{Erase: &agent.EraseJob{}}}, "", true},
		"no image":  {&agent.Order{Job: &agent.Order_Deploy{Deploy: &agent.DeployJob{}}}, "", true},
	} {
		plan, err := m.plan(tc.order)
		if (err != nil) != tc.fails {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil && plan.After() != tc.after {
			t.Errorf("%s: got %q, want %q", name, plan.After(), tc.after)
		}
	}
	for name, tc := range map[string]struct {
		order  *agent.Order
		reason string
	}{
		"commission": {&agent.Order{Job: &agent.Order_Commission{Commission: &agent.CommissionJob{Tests: []string{"disk-read"}}}}, "hardware_test_failed"},
		"erase":      {&agent.Order{Job: &agent.Order_Erase{Erase: &agent.EraseJob{Disks: []*agent.DiskSelector{{Serial: "x"}}}}}, "agent_error"},
	} {
		m.neighbours = &links{}
		plan, err := m.plan(tc.order)
		if err != nil {
			t.Fatal(err)
		}
		r := job.Runner{To: deaf{}, Log: m.log}
		if got, _ := r.Execute(t.Context(), 1, 1, plan); got.Reason != tc.reason {
			t.Errorf("%s on a machine without anything: got %v, want %s", name, got, tc.reason)
		}
	}
}

type deaf struct{}

func (deaf) Report(*agent.Report)     {}
func (deaf) Progress(*agent.Progress) {}

// TestTrustedKeys: no list is no demand, and one that cannot be read trusts
// nobody.
func TestTrustedKeys(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	m := &machine{host: host.New(root), log: slog.New(slog.DiscardHandler)}
	if got := m.trustedKeys(); got != nil {
		t.Errorf("no list: got %q, want nil", got)
	}
	path := filepath.Join(root, trustedKeysFile)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := m.trustedKeys(); got == nil || len(got) != 0 {
		t.Errorf("a list that is a directory: got %q, want an empty one", got)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("# x\nRWkey\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got, want := string(m.trustedKeys()), "# x\nRWkey"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
