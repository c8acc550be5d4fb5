package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ingot-metal/ingot/proto/agent"
)

// maxDetail bounds the text of a result and of an event, in bytes.
const maxDetail = 4096

// Runner runs plans. It keeps nothing between them.
type Runner struct {
	To  Reporter
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Execute runs the plan of an order to its end and gives its one result, and
// what is to follow once that result is stored. It does not report the result.
// It returns when all tasks have. ctx ended with Cancelled as its cause makes
// the outcome CANCELLED.
func (r *Runner) Execute(ctx context.Context, orderID int64, attempt int, plan Plan) (*agent.JobResult, After) {
	log := r.Log.With("order_id", orderID)
	start := r.now()
	var err error
	for _, phase := range plan.Phases {
		if err = r.phase(ctx, log, orderID, attempt, phase); err != nil {
			err = fmt.Errorf("%s: %w", phase.Name, err)
			break
		}
	}
	result := resultOf(ctx, err)
	if plan.Finish != nil {
		if err := guard(func() error { plan.Finish(result); return nil }); err != nil {
			result = resultOf(ctx, fmt.Errorf("make the result: %w", err))
		}
	}
	log.Info("job ended", "outcome", result.Outcome.String(), "reason", result.Reason,
		"detail", result.Detail, "elapsed", r.now().Sub(start).Round(time.Millisecond))
	if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || plan.After == nil {
		return result, Stay
	}
	return result, plan.After()
}

func (r *Runner) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func resultOf(ctx context.Context, err error) *agent.JobResult {
	switch {
	case err == nil:
		return &agent.JobResult{Outcome: agent.Outcome_OUTCOME_SUCCEEDED}
	case wasCancelled(ctx):
		return &agent.JobResult{Outcome: agent.Outcome_OUTCOME_CANCELLED, Reason: string(ReasonCancelled),
			Detail: clip(fmt.Sprintf("%v (%v)", context.Cause(ctx), err))}
	}
	return &agent.JobResult{Outcome: agent.Outcome_OUTCOME_FAILED, Reason: string(ReasonOf(err)), Detail: clip(err.Error())}
}

// phase runs the tasks of one phase together.
func (r *Runner) phase(ctx context.Context, log *slog.Logger, orderID int64, attempt int, p Phase) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	limit := p.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("took longer than its limit of %v", limit))
	defer cancel()
	return r.timed(ctx, log, orderID, p.Name, "", func() error {
		group, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		errs := make([]error, len(p.Tasks))
		var wait sync.WaitGroup
		for i, task := range p.Tasks {
			wait.Go(func() {
				run := &Run{OrderID: orderID, Attempt: attempt, Phase: p.Name, Log: log.With("phase", p.Name), to: r.To}
				if errs[i] = r.task(group, log, run, task); errs[i] != nil && !p.Independent {
					stop(fmt.Errorf("stopped because %s did not succeed", task.Name))
				}
			})
		}
		wait.Wait()
		return first(ctx, errs)
	})
}

// first finds the error that was there first: one that is not just the echo of
// a context that ended. When the limit ended the phase, it says so.
func first(ctx context.Context, errs []error) error {
	var echo error
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			echo = err
		default:
			return err
		}
	}
	if echo != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return echo
}

func (r *Runner) task(ctx context.Context, log *slog.Logger, run *Run, t Task) error {
	work := func() error { return guard(func() error { return t.Run(ctx, run) }) }
	if t.Name == "" {
		return work()
	}
	run.Log = run.Log.With("task", t.Name)
	return r.timed(ctx, log, run.OrderID, run.Phase, t.Name, work)
}

// timed reports the start and the end of a phase or task.
func (r *Runner) timed(ctx context.Context, log *slog.Logger, orderID int64, phase, task string, work func() error) error {
	log = log.With("phase", phase)
	if task != "" {
		log = log.With("task", task)
	}
	r.event(orderID, &agent.PhaseEvent{Phase: phase, Task: task})
	log.Info("phase starts")
	start := r.now()
	err := work()
	elapsed := r.now().Sub(start)
	end := &agent.PhaseEvent{Phase: phase, Task: task, Elapsed: durationpb.New(elapsed)}
	result := resultOf(ctx, err)
	end.Outcome, end.Detail = result.Outcome, result.Detail
	r.event(orderID, end)
	if err != nil {
		log.Error("phase ended", "elapsed", elapsed.Round(time.Millisecond), "err", err)
		return err
	}
	log.Info("phase ended", "elapsed", elapsed.Round(time.Millisecond))
	return nil
}

func (r *Runner) event(orderID int64, e *agent.PhaseEvent) {
	r.To.Report(&agent.Report{OrderId: orderID, Report: &agent.Report_Phase{Phase: e}})
}

// guard turns a panic into an error with its place.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Failf(ReasonAgentError, "the agent has a defect: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// clip bounds a text, and replaces what is not UTF-8: errors repeat what disks,
// images and servers say.
func clip(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail-len(" …")]
		return strings.ToValidUTF8(s, "") + " …"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
