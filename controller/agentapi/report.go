package agentapi

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/hardware"
)

const (
	// clockSlack is how far an agent's clock may be off before its times are
	// replaced by ours.
	clockSlack = time.Hour
	// storeAgain is the pause between tries while the database is away.
	storeAgain = time.Second
	// maxLogLines bounds what one report logs.
	maxLogLines = 200
)

// report stores one report and acknowledges it. While the database is away the
// agent waits: it keeps what was not acknowledged.
func (st *stream) report(ctx context.Context, r *agent.Report) error {
	if err := st.pace.report(ctx); err != nil {
		return err
	}
	st.say(r.GetLog().GetLines())
	stored, err := st.store(ctx, r)
	if err != nil {
		return err
	}
	if err := st.queue(ctx, &agent.ToAgent{Message: &agent.ToAgent_Ack{Ack: &agent.Ack{Sequence: stored}}}); err != nil {
		return err
	}
	if r.GetResult() != nil && r.GetOrderId() != 0 {
		st.relayLeave(r.GetOrderId())
		return st.answer(ctx, r.GetOrderId())
	}
	return nil
}

// say writes an agent's lines into our log, as many as the pace allows.
func (st *stream) say(lines []string) {
	dropped := max(0, len(lines)-maxLogLines)
	for _, line := range lines[:len(lines)-dropped] {
		if !st.pace.line() {
			dropped++
			continue
		}
		st.log.Info("agent says", "line", text(line))
	}
	if dropped > 0 && st.pace.line() {
		st.log.Info("agent says more than is logged", "lines", dropped)
	}
}

func (st *stream) store(ctx context.Context, r *agent.Report) (uint64, error) {
	domain, err := st.domain(r)
	if err != nil {
		return 0, err
	}
	for {
		stored, err := st.server.Store.ReportApply(ctx, st.agent.id, st.agent.generation, r.GetSequence(), domain)
		switch {
		case err == nil:
			return stored, nil
		case fault.Is(err, fault.Invalid):
			// It would come again for ever; its refusal is stored in its place.
			domain = refused(r, domain, err)
		case !fault.Is(err, fault.Unavailable):
			return 0, err
		default:
			st.log.Warn("store a report", "err", err)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(storeAgain):
		}
	}
}

func refused(r *agent.Report, was store.Report, cause error) store.Report {
	out := store.Report{At: was.At, OrderID: was.OrderID, Events: []machine.Event{{
		Kind: machine.EventWarning, Text: fmt.Sprintf("a report of the agent was refused: %v", cause),
	}}}
	if r.GetResult() != nil {
		out.Result = &store.OrderResult{State: machine.OrderFailed, Reason: machine.ReasonAgentError, Detail: cause.Error()}
	}
	return out
}

// domain turns a report into what the store keeps.
func (st *stream) domain(r *agent.Report) (store.Report, error) {
	out := store.Report{At: near(r.GetAt().AsTime(), time.Now()), OrderID: r.GetOrderId()}
	switch x := r.GetReport().(type) {
	case *agent.Report_Phase:
		out.Events = []machine.Event{phaseEvent(x.Phase)}
	case *agent.Report_Collection:
		payload, err := proto.Marshal(x.Collection)
		if err != nil {
			return out, fault.Wrap(fault.Invalid, err, "collection")
		}
		out.Collection = &store.Collection{Payload: payload, Facts: facts(x.Collection)}
	case *agent.Report_Test:
		out.Test = testOf(x.Test, out.At)
	case *agent.Report_Result:
		state, reason, detail, result := outcome(x.Result)
		out.Result = &store.OrderResult{State: state, Reason: reason, Detail: detail, Result: result}
	}
	return out, nil
}

// near keeps a claimed time when it is close to ours.
func near(claimed, now time.Time) time.Time {
	if d := now.Sub(claimed); d > clockSlack || d < -clockSlack {
		return now
	}
	return claimed
}

func phaseEvent(p *agent.PhaseEvent) machine.Event {
	name := text(p.GetPhase())
	if task := text(p.GetTask()); task != "" {
		name += " " + task
	}
	e := machine.Event{Kind: machine.EventStep, Text: name + " begun"}
	word := map[agent.Outcome]string{
		agent.Outcome_OUTCOME_SUCCEEDED: "done", agent.Outcome_OUTCOME_FAILED: "failed", agent.Outcome_OUTCOME_CANCELLED: "cancelled",
	}[p.GetOutcome()]
	if word != "" {
		e.Text = fmt.Sprintf("%s %s after %.1f s", name, word, bounded(p.GetElapsed().AsDuration()).Seconds())
	}
	if d := text(p.GetDetail()); d != "" {
		e.Detail = map[string]string{"detail": d}
	}
	return e
}

func testOf(t *hardware.TestResult, at time.Time) *store.TestResult {
	verdict := "skipped"
	switch t.GetVerdict() {
	case hardware.TestVerdict_TEST_VERDICT_PASSED:
		verdict = "passed"
	case hardware.TestVerdict_TEST_VERDICT_FAILED:
		verdict = "failed"
	}
	return &store.TestResult{
		Name: text(t.GetTest()), Subject: text(t.GetSubject()), Outcome: verdict, Detail: text(t.GetDetail()),
		Elapsed: bounded(t.GetElapsed().AsDuration()), At: at,
	}
}
