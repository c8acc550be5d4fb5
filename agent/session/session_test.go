package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
	"github.com/ingot-metal/ingot/proto/agent"
)

func TestOrderToProceed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.work = func(_ context.Context, run *job.Run) error { run.Progress("", 1, 2, 0, 0); return nil }
	_, done := l.start(l.config())
	s := l.stream()
	o := order(1, 1)
	o.Job = &agent.Order_Deploy{Deploy: &agent.DeployJob{}}
	give(s, o)
	l.wait("a result", func() bool { return len(l.results(1)) == 1 })
	l.wait("progress", func() bool { return (<-s.others).GetProgress().GetDoneBytes() == 1 })
	l.wait("a sign of life", func() bool { return (<-s.others).GetAlive() != nil })
	select {
	case e := <-done:
		t.Fatalf("the agent went on without Proceed: %+v", e)
	default:
	}
	s.send(&agent.ToAgent{Message: &agent.ToAgent_Proceed{Proceed: &agent.Proceed{OrderId: 99}}})
	s.send(&agent.ToAgent{Message: &agent.ToAgent_Proceed{Proceed: &agent.Proceed{OrderId: 1}}})
	select {
	case got := <-done:
		if want := (ending{after: job.Kexec}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case <-time.After(patience):
		t.Fatal("the agent did not go on after Proceed")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := fmt.Sprintf("%+v", l.statuses)
	for _, want := range []string{"MachineName:k3f9", "NextStep:ingot machine approve k3f9", "Job:deploy: work"} {
		if !strings.Contains(all, want) {
			t.Errorf("console: got %s, want %q in it", all, want)
		}
	}
}

func TestLostReplyOfEnrol(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.enrol = func(*agent.EnrolRequest) error {
		if l.enrols < 3 {
			return status.Error(codes.Unavailable, "the reply is lost")
		}
		return nil
	}
	l.start(l.config())
	l.stream()
	l.controller.mu.Lock()
	defer l.controller.mu.Unlock()
	if got, want := l.enrols, 3; got != want {
		t.Errorf("enrolments with the same key: got %d, want %d", got, want)
	}
}

func TestRefusedEnrolment(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg := l.config()
	cfg.Nonce = "somebody-elses-nonce"
	_, done := l.start(cfg)
	if got := <-done; !errors.Is(got.err, session.ErrRefused) {
		t.Errorf("got %v, want %v", got.err, session.ErrRefused)
	}
}

func TestWrongController(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for name, change := range map[string]func(*session.Config){
		"fingerprint": func(c *session.Config) { c.CA = strings.Repeat("0", 64) },
		"host":        func(c *session.Config) { c.Controller = strings.Replace(c.Controller, "127.0.0.1", "localhost", 1) },
	} {
		cfg := l.config()
		cfg.Dir += name
		change(&cfg)
		problem := make(chan string, 1000)
		cfg.Show = func(s session.Status) { problem <- s.Problem }
		stop, _ := l.start(cfg)
		select {
		case got := <-problem:
			if !strings.Contains(got, session.ErrWrongController.Error()) {
				t.Errorf("%s: got %q, want %q", name, got, session.ErrWrongController)
			}
		case <-time.After(patience):
			t.Errorf("%s: no problem was shown", name)
		}
		stop()
	}
	if l.enrols != 0 {
		t.Errorf("the nonce was given away %d times", l.enrols)
	}
}

func TestStreamCutInTheMiddleOfResults(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var cuts atomic.Int32
	l.taken = func(r *agent.Report) bool {
		// Every second report is stored, and its acknowledgement lost.
		return r.Sequence%2 == 0 || cuts.Add(1) > 6
	}
	l.start(l.config())
	s := l.stream()
	for id := range int64(5) {
		give(s, order(id+1, 1))
		l.wait("a result", func() bool {
			select {
			case s = <-l.streams:
				give(s, order(id+1, 1)) // as a controller does that has no result yet
			default:
			}
			return len(l.results(id+1)) > 0
		})
	}
	for id := range int64(5) {
		// An order that is given again after its result was stored has the same
		// result repeated; it is never made a second time.
		for _, r := range l.results(id + 1) {
			if got, want := r.Outcome, agent.Outcome_OUTCOME_SUCCEEDED; got != want {
				t.Errorf("order %d: got %v, want %v", id+1, got, want)
			}
		}
	}
	if got, want := l.runs.Load(), int32(5); got != want {
		t.Errorf("runs: got %d, want %d", got, want)
	}
}

func TestDoubledOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	release := make(chan struct{})
	l.work = func(ctx context.Context, _ *job.Run) error { <-release; return errors.New("did not work") }
	l.start(l.config())
	s := l.stream()
	give(s, order(1, 1))
	give(s, order(1, 2))
	l.wait("the start", func() bool { return l.runs.Load() > 0 })
	close(release)
	l.wait("the result", func() bool { return len(l.results(1)) == 1 })
	l.wait("the result repeated", func() bool { give(s, order(1, 3)); return len(l.results(1)) > 1 })
	if got, want := l.runs.Load(), int32(1); got != want {
		t.Errorf("runs: got %d, want %d", got, want)
	}
	if got, want := l.results(1)[1].Detail, "work: did not work"; got != want {
		t.Errorf("repeated: got %q, want %q", got, want)
	}
}

func TestRefusedOrders(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.config())
	s := l.stream()
	give(s, order(1, 7))
	l.wait("the result", func() bool { return len(l.results(1)) == 1 })
	stale, other, late := order(2, 6), order(3, 7), order(4, 7)
	other.BootGeneration = 4
	late.ExpiresAt = timestamppb.New(time.Now().Add(-time.Minute))
	for _, o := range []*agent.Order{stale, other, late} {
		give(s, o)
		l.wait("the refusal", func() bool { return len(l.results(o.Id)) == 1 })
		if got, want := l.results(o.Id)[0].Outcome, agent.Outcome_OUTCOME_FAILED; got != want {
			t.Errorf("order %d: got %v, want %v", o.Id, got, want)
		}
	}
	give(s, order(1, 6)) // known, and from a controller that lost the machine: not even an answer
	give(s, order(5, 7))
	l.wait("a good one", func() bool { return len(l.results(5)) == 1 })
	if got, want := len(l.results(1)), 1; got != want {
		t.Errorf("results of order 1: got %d, want %d", got, want)
	}
	if got, want := l.runs.Load(), int32(2); got != want {
		t.Errorf("runs: got %d, want %d", got, want)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.work = func(ctx context.Context, _ *job.Run) error { <-ctx.Done(); return ctx.Err() }
	l.start(l.config())
	s := l.stream()
	cancel := func(id int64) {
		s.send(&agent.ToAgent{Message: &agent.ToAgent_Cancel{Cancel: &agent.Cancel{OrderId: id, Reason: "why not"}}})
	}
	give(s, order(1, 1))
	l.wait("the start", func() bool { return l.runs.Load() == 1 })
	give(s, order(2, 1))
	cancel(2) // waits
	cancel(3) // unknown
	cancel(1) // runs
	for id := range int64(3) {
		l.wait("the result", func() bool { return len(l.results(id+1)) == 1 })
		if got, want := l.results(id + 1)[0].Outcome, agent.Outcome_OUTCOME_CANCELLED; got != want {
			t.Errorf("order %d: got %v, want %v", id+1, got, want)
		}
	}
	if got, want := l.runs.Load(), int32(1); got != want {
		t.Errorf("runs: got %d, want %d", got, want)
	}
}

// TestNewerOrderOverrules: a machine that has something else to do by now does
// not leave for an old order's sake.
func TestNewerOrderOverrules(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, done := l.start(l.config())
	s := l.stream()
	o := order(1, 1)
	o.Job = &agent.Order_Deploy{Deploy: &agent.DeployJob{}}
	give(s, o)
	give(s, order(2, 1))
	l.wait("the results", func() bool { return len(l.results(1)) == 1 && len(l.results(2)) == 1 })
	s.send(&agent.ToAgent{Message: &agent.ToAgent_Proceed{Proceed: &agent.Proceed{OrderId: 1}}})
	give(s, order(3, 1))
	l.wait("work after that", func() bool { return len(l.results(3)) == 1 })
	select {
	case got := <-done:
		t.Errorf("the agent left: %+v", got)
	default:
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.life = 2 * time.Second // certificates count in seconds
	l.start(l.config())
	s := l.stream()
	for range 2 {
		select {
		case <-l.renewed:
		case <-time.After(patience):
			t.Fatal("no renewal")
		}
	}
	s.end()
	l.stream() // with the new certificate
}

func TestLogReachesTheController(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg := l.config()
	var console strings.Builder
	cfg.Log = session.NewLog(&console, nil, cmdline.Redact)
	logger := cfg.Log.Logger()
	for range 5000 {
		logger.Info("kernel said", "line", "ingot.nonce=0123456789abcdef")
	}
	l.start(cfg)
	l.wait("the lines", func() bool {
		l.controller.mu.Lock()
		defer l.controller.mu.Unlock()
		text := ""
		for _, r := range l.reports {
			text += strings.Join(r.GetLog().GetLines(), "\n")
		}
		if strings.Contains(text, "0123456789abcdef") {
			t.Fatal("the nonce is in the log")
		}
		return strings.Contains(text, "[redacted]") && strings.Contains(text, "[3000 lines") || strings.Contains(text, "[3001 lines")
	})
}
