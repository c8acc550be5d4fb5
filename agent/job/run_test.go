package job_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

// notes keeps what a job reported.
type notes struct {
	mu       sync.Mutex
	reports  []*agent.Report
	progress []*agent.Progress
}

func (n *notes) Report(r *agent.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reports = append(n.reports, r)
}

func (n *notes) Progress(p *agent.Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.progress = append(n.progress, p)
}

// events gives "phase/task outcome" of each report, in order.
func (n *notes) events() []string {
	var out []string
	for _, r := range n.reports {
		e := r.GetPhase()
		name := e.GetPhase()
		if e.GetTask() != "" {
			name += "/" + e.GetTask()
		}
		out = append(out, name+" "+strings.TrimPrefix(e.GetOutcome().String(), "OUTCOME_"))
	}
	return out
}

func execute(ctx context.Context, plan job.Plan) (*agent.JobResult, job.After, *notes) {
	n := &notes{}
	r := job.Runner{To: n, Log: slog.New(slog.DiscardHandler)}
	result, after := r.Execute(ctx, 7, 1, plan)
	return result, after, n
}

func do(err error) func(context.Context, *job.Run) error {
	return func(context.Context, *job.Run) error { return err }
}

func TestPhasesRunInOrder(t *testing.T) {
	t.Parallel()
	finished := 0
	result, after, n := execute(t.Context(), job.Plan{
		Phases: []job.Phase{
			job.Single("one", 0, func(_ context.Context, run *job.Run) error { run.Progress("", 1, 2, 0, 0); return nil }),
			{Name: "two", Tasks: []job.Task{{Name: "a", Run: do(nil)}}},
		},
		Finish: func(*agent.JobResult) { finished++ },
		After:  func() job.After { return job.Kexec },
	})
	if got, want := result.Outcome, agent.Outcome_OUTCOME_SUCCEEDED; got != want {
		t.Errorf("outcome: got %v, want %v (%s)", got, want, result.Detail)
	}
	if got, want := after, job.Kexec; got != want {
		t.Errorf("after: got %q, want %q", got, want)
	}
	if got, want := finished, 1; got != want {
		t.Errorf("calls of Finish: got %d, want %d", got, want)
	}
	want := []string{"one UNSPECIFIED", "one SUCCEEDED", "two UNSPECIFIED", "two/a UNSPECIFIED", "two/a SUCCEEDED", "two SUCCEEDED"}
	if diff := cmp.Diff(n.events(), want); diff != "" {
		t.Errorf("events (-got +want):\n%s", diff)
	}
	if got, want := n.progress[0].Phase, "one"; got != want {
		t.Errorf("progress: got phase %q, want %q", got, want)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		run    func(context.Context, *job.Run) error
		reason string
		detail string
	}{
		"reason":      {do(job.Failf(job.ReasonNoDisks, "nothing here")), "no_disks", "only: nothing here"},
		"inner wins":  {do(job.Fail(job.ReasonAgentError, job.Failf(job.ReasonDiskGone, "x"))), "disk_gone", "x"},
		"plain":       {do(errors.New("hm")), "agent_error", "only: hm"},
		"disk answer": {do(unix.EIO), "disk_error", "input/output error"},
		"panic":       {func(context.Context, *job.Run) error { panic("ouch") }, "agent_error", "panic: ouch"},
		"long":        {do(errors.New(strings.Repeat("x", 10000))), "agent_error", "…"},
	} {
		result, after, _ := execute(t.Context(), job.Plan{
			Phases: []job.Phase{job.Single("only", 0, tc.run), job.Single("never", 0, func(context.Context, *job.Run) error {
				t.Errorf("%s: the next phase ran", name)
				return nil
			})},
			After: func() job.After { return job.Reboot },
		})
		if got, want := result.Reason, tc.reason; got != want {
			t.Errorf("%s: got reason %q, want %q", name, got, want)
		}
		if !strings.Contains(result.Detail, tc.detail) || len(result.Detail) > 4200 {
			t.Errorf("%s: got detail %.200q, want one with %q", name, result.Detail, tc.detail)
		}
		if after != job.Stay {
			t.Errorf("%s: got after %q, want %q", name, after, job.Stay)
		}
	}
}

func TestPanicInFinish(t *testing.T) {
	t.Parallel()
	result, _, _ := execute(t.Context(), job.Plan{Finish: func(*agent.JobResult) { panic("ouch") }})
	if got, want := result.Reason, "agent_error"; got != want {
		t.Errorf("got reason %q, want %q", got, want)
	}
}

func TestOneTaskEndsTheOthers(t *testing.T) {
	t.Parallel()
	result, _, _ := execute(t.Context(), job.Plan{Phases: []job.Phase{{Name: "both", Tasks: []job.Task{
		{Name: "waits", Run: func(ctx context.Context, _ *job.Run) error { <-ctx.Done(); return ctx.Err() }},
		{Name: "fails", Run: do(job.Failf(job.ReasonDiskError, "bad sector"))},
	}}}})
	if got, want := result.Detail, "both: bad sector"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIndependentTasksGoOn(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	done := false
	result, _, _ := execute(t.Context(), job.Plan{Phases: []job.Phase{{Name: "erase", Independent: true, Tasks: []job.Task{
		{Name: "fails", Run: func(context.Context, *job.Run) error { close(failed); return errors.New("bad disk") }},
		{Name: "goes on", Run: func(ctx context.Context, _ *job.Run) error { <-failed; done = ctx.Err() == nil; return nil }},
	}}}})
	if got, want := result.Detail, "erase: bad disk"; got != want || !done {
		t.Errorf("got %q and done %v, want %q and the other task done", got, done, want)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		result, _, n := execute(t.Context(), job.Plan{Phases: []job.Phase{job.Single("slow", time.Minute,
			func(ctx context.Context, _ *job.Run) error { <-ctx.Done(); return ctx.Err() })}})
		if got, want := result.Detail, "slow: took longer than its limit of 1m0s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := result.Outcome, agent.Outcome_OUTCOME_FAILED; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		if got, want := n.reports[1].GetPhase().GetElapsed().AsDuration(), time.Minute; got != want {
			t.Errorf("elapsed: got %v, want %v", got, want)
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	result, after, _ := execute(ctx, job.Plan{
		Phases: []job.Phase{job.Single("write", 0, func(ctx context.Context, _ *job.Run) error {
			cancel(job.Cancelled("the operator changed her mind"))
			<-ctx.Done()
			return errors.New("write: interrupted")
		})},
		After: func() job.After { return job.Kexec },
	})
	if got, want := result.Outcome, agent.Outcome_OUTCOME_CANCELLED; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if !strings.Contains(result.Detail, "changed her mind") {
		t.Errorf("got detail %q, want the reason of the cancel", result.Detail)
	}
	if after != job.Stay {
		t.Errorf("got after %q, want %q", after, job.Stay)
	}
}

// TestDetailIsUTF8: a text that is cut, or that holds what an image named its
// files, can still be sent.
func TestDetailIsUTF8(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("é", 4096), "x" + strings.Repeat("é", 4096), "caf\xe9"} {
		r := job.Runner{To: &notes{}, Log: slog.New(slog.DiscardHandler)}
		got, _ := r.Execute(t.Context(), 1, 1, job.Plan{Phases: []job.Phase{job.Single("look", 0, func(context.Context, *job.Run) error {
			return errors.New(text)
		})}})
		if !utf8.ValidString(got.Detail) || len(got.Detail) > 4096 {
			t.Errorf("%.10q: got %d bytes, valid %v; want at most 4096, valid", text, len(got.Detail), utf8.ValidString(got.Detail))
		}
	}
}
