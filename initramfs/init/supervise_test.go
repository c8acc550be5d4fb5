package main

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

// fakeAgent lives for the given times, one after another, then for a second.
type fakeAgent struct {
	lives  []time.Duration
	began  time.Time
	starts []time.Duration // since the beginning
	killed chan struct{}
}

func (f *fakeAgent) supervisor() supervisor {
	f.began, f.killed = time.Now(), make(chan struct{})
	return supervisor{
		log: slog.New(slog.DiscardHandler), now: time.Now, sleep: sleep,
		start: func() (int, error) {
			f.starts = append(f.starts, time.Since(f.began))
			return len(f.starts), nil
		},
		wait: func(pid int) string {
			life := time.Second
			if pid <= len(f.lives) {
				life = f.lives[pid-1]
			}
			select {
			case <-time.After(life):
				return "exit status 1"
			case <-f.killed:
				return "killed"
			}
		},
		kill: func(context.Context, int) { close(f.killed) },
	}
}

func TestSupervisorGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAgent{}
		if err := f.supervisor().run(t.Context()); !errors.Is(err, errAgent) {
			t.Errorf("got %v, want %v", err, errAgent)
		}
		want := []time.Duration{0, 2 * time.Second, 7 * time.Second, 24 * time.Second}
		if diff := cmp.Diff(f.starts, want); diff != "" {
			t.Errorf("starts (-got +want):\n%s", diff)
		}
	})
}

func TestSupervisorForgivesAfterLongRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAgent{lives: []time.Duration{time.Second, time.Second, time.Second, time.Hour}}
		_ = f.supervisor().run(t.Context())
		if got, want := len(f.starts), 4+maxRestarts; got != want {
			t.Errorf("starts: got %d, want %d", got, want)
		}
	})
}

func TestSupervisorStopsAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAgent{lives: []time.Duration{24 * time.Hour}}
		ctx, stop := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() { result <- f.supervisor().run(ctx) }()
		synctest.Wait()
		stop(errPowerOff)
		if got := <-result; got != errPowerOff {
			t.Errorf("got %v, want %v", got, errPowerOff)
		}
	})
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for signal, want := range map[syscall.Signal]int{
		unix.SIGTERM: unix.LINUX_REBOOT_CMD_RESTART, unix.SIGINT: unix.LINUX_REBOOT_CMD_RESTART,
		unix.SIGPWR: unix.LINUX_REBOOT_CMD_POWER_OFF, unix.SIGUSR2: unix.LINUX_REBOOT_CMD_POWER_OFF,
	} {
		if got := commandFor(endOf(signal)); got != want {
			t.Errorf("%v: got command %#x, want %#x", signal, got, want)
		}
	}
	if got := commandFor(errAgent); got != unix.LINUX_REBOOT_CMD_RESTART {
		t.Errorf("agent gave up: got command %#x, want a restart", got)
	}
}

// TestWaitChild reaps an orphan on the way to the process that it waits for. It
// must not run beside tests that start processes.
func TestWaitChild(t *testing.T) {
	first := exec.Command("true")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	second := exec.Command("sh", "-c", "sleep 0.1; exit 7")
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if got, want := waitChild(second.Process.Pid), "exit status 7"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := syscall.Kill(first.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("orphan: got %v, want %v", err, syscall.ESRCH)
	}
	third := exec.Command("sleep", "60")
	third.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := third.Start(); err != nil {
		t.Fatal(err)
	}
	over, ended := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); killAgent(over, third.Process.Pid) }()
	if got, want := waitChild(third.Process.Pid), "killed by terminated"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	ended()
	<-done
}
