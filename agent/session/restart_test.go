package session_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/proto/agent"
)

// TestRestartedAgent ends the agent's process state in the middle of an order,
// and again after a result that nobody acknowledged.
func TestRestartedAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	attempts := make(chan int, 10)
	l.work = func(ctx context.Context, run *job.Run) error {
		attempts <- run.Attempt
		if run.Attempt == 1 && run.OrderID == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	var deaf atomic.Bool
	l.taken = func(*agent.Report) bool { return !deaf.Load() }
	stop, _ := l.start(l.config())
	s := l.stream()
	give(s, order(1, 3))
	if got := <-attempts; got != 1 {
		t.Errorf("attempt: got %d, want 1", got)
	}
	stop()

	stop, _ = l.start(l.config())
	s = l.stream()
	deaf.Store(true)
	give(s, order(2, 2)) // stale even for the new process
	give(s, order(1, 3))
	for began := false; !began; {
		select {
		case got := <-attempts:
			if began = true; got != 2 {
				t.Errorf("attempt: got %d, want 2", got)
			}
		case s = <-l.streams: // it was cut, perhaps before the order arrived
			give(s, order(1, 3))
		case <-time.After(patience):
			t.Fatal("the order did not begin again")
		}
	}
	l.wait("the result", func() bool {
		select {
		case <-l.streams:
		default:
		}
		return len(l.results(1)) == 1
	})
	stop()
	deaf.Store(false)

	l.start(l.config())
	s = l.stream()
	give(s, order(1, 3))
	give(s, order(3, 3))
	l.wait("the next result", func() bool {
		select {
		case s = <-l.streams:
			give(s, order(3, 3))
		default:
		}
		return len(l.results(3)) == 1
	})
	if got, want := l.enrols, 1; got != want {
		t.Errorf("enrolments: got %d, want %d", got, want)
	}
	if got := l.results(2); len(got) != 1 || !strings.Contains(got[0].Detail, "lease token") {
		t.Errorf("stale order: got %v, want one refusal", got)
	}
	for _, r := range l.results(1) {
		if r.Outcome != agent.Outcome_OUTCOME_SUCCEEDED {
			t.Errorf("order 1: got %v, want success", r)
		}
	}
}

// TestProceedAfterARestart: what was to follow a result is not forgotten.
func TestProceedAfterARestart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stop, _ := l.start(l.config())
	s := l.stream()
	o := order(1, 1)
	o.Job = &agent.Order_Deploy{Deploy: &agent.DeployJob{}}
	give(s, o)
	l.wait("the result", func() bool { return len(l.results(1)) == 1 })
	stop()
	_, done := l.start(l.config())
	s = l.stream()
	s.send(&agent.ToAgent{Message: &agent.ToAgent_Proceed{Proceed: &agent.Proceed{OrderId: 1}}})
	select {
	case got := <-done:
		if want := (ending{after: job.Kexec}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case <-time.After(patience):
		t.Fatal("the agent did not go on after Proceed")
	}
}

func TestNewBootForgets(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stop, _ := l.start(l.config())
	l.stream()
	stop()
	before, err := os.ReadFile(filepath.Join(l.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(l.dir, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: got %v, %v, want mode 0600", info.Mode(), err)
	}
	cfg := l.config()
	cfg.BootID = "boot-2"
	if _, err := session.New(cfg); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(l.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if string(after) == string(before) {
		t.Error("the key of the last boot is still in use")
	}
}
