package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/agent/deploy"
	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/hwtest"
	"github.com/ingot-metal/ingot/agent/inventory"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// plan is session.Planner: one kind of job, one plan.
func (m *machine) plan(order *agent.Order) (job.Plan, error) {
	switch o := order.Job.(type) {
	case *agent.Order_Commission:
		return m.commission(o.Commission), nil
	case *agent.Order_Deploy:
		return deploy.Plan(m.forDeploy(), o.Deploy)
	case *agent.Order_Erase:
		return m.erase(o.Erase)
	case *agent.Order_Power:
		return power(o.Power)
	}
	return job.Plan{}, job.Failf(job.ReasonAgentError, "this agent (%s) does not know the kind of the order: update it", version)
}

func power(o *agent.PowerJob) (job.Plan, error) {
	after, ok := map[agent.PowerJob_Action]job.After{
		agent.PowerJob_ACTION_REBOOT: job.Reboot, agent.PowerJob_ACTION_POWER_OFF: job.PowerOff,
	}[o.GetAction()]
	if !ok {
		return job.Plan{}, job.Failf(job.ReasonAgentError, "power action %v is not known", o.GetAction())
	}
	return job.Plan{After: func() job.After { return after }}, nil
}

// commission takes the inventory, then makes the tests, one after the other so
// that they do not disturb each other's numbers.
func (m *machine) commission(o *agent.CommissionJob) job.Plan {
	var passed, failed atomic.Uint32
	var failures []string // written by one test at a time
	phases := []job.Phase{job.Single("inventory", 5*time.Minute, func(ctx context.Context, run *job.Run) error {
		run.Collection(m.collect(ctx))
		return ctx.Err()
	})}
	tests, unknown := hwtest.Choose(o.GetTests())
	if o.GetSkipTests() {
		tests, unknown = nil, nil
	}
	for _, t := range tests {
		phases = append(phases, job.Single(t.Name, t.Limit+time.Minute, func(ctx context.Context, run *job.Run) error {
			t.Execute(ctx, m.host, func(r *hardware.TestResult) {
				run.Log.Info("test has a result", "subject", r.Subject, "verdict", r.Verdict.String(), "detail", r.Detail)
				run.Test(r)
				switch r.Verdict {
				case hardware.TestVerdict_TEST_VERDICT_PASSED:
					passed.Add(1)
				case hardware.TestVerdict_TEST_VERDICT_FAILED:
					failed.Add(1)
					failures = append(failures, fmt.Sprintf("%s of %s: %s", r.Test, r.Subject, r.Detail))
				}
			})
			return ctx.Err()
		}))
	}
	return job.Plan{Phases: phases, Finish: func(r *agent.JobResult) {
		r.Result = &agent.JobResult_Commission{Commission: &agent.CommissionResult{TestsPassed: passed.Load(), TestsFailed: failed.Load()}}
		for _, name := range unknown {
			r.Warnings = append(r.Warnings, &agent.Warning{Code: "test_unknown", Text: "This agent has no test named " + name + "."})
		}
		if r.Outcome == agent.Outcome_OUTCOME_SUCCEEDED && failed.Load() > 0 {
			r.Outcome, r.Reason = agent.Outcome_OUTCOME_FAILED, string(job.ReasonTestFailed)
			r.Detail = strings.Join(failures[:min(len(failures), 10)], "; ")
		}
	}}
}

func (m *machine) collect(ctx context.Context) *hardware.Collection {
	return inventory.Collector{Host: m.host, Version: version, BootMAC: m.params.BootMAC.String(),
		Architecture: architecture(), Neighbours: m.neighbours.neighbours, Log: m.log}.Collect(ctx)
}

// eraseLimit is what one disk may take: 24 TB at 150 MB/s are two days.
const eraseLimit = 72 * time.Hour

// erase finds all disks before it touches the first, then erases them together.
func (m *machine) erase(o *agent.EraseJob) (job.Plan, error) {
	if len(o.GetDisks()) == 0 {
		return job.Plan{}, job.Failf(job.ReasonAgentError, "the order names no disk to erase")
	}
	found := make([]disk.Disk, len(o.Disks))
	receipts := make([]*agent.EraseReceipt, len(o.Disks))
	find := job.Single("prepare", time.Minute, func(context.Context, *job.Run) error {
		disks, err := disk.List(m.host)
		if err != nil {
			return err
		}
		for i, s := range o.Disks {
			if found[i], err = disk.Pick(disks, selector(s)); err != nil {
				return reasoned(err)
			}
		}
		return nil
	})
	work := job.Phase{Name: "erase", Limit: eraseLimit, Independent: true}
	for i, s := range o.Disks {
		name := fmt.Sprintf("disk %s", selector(s))
		work.Tasks = append(work.Tasks, job.Task{Name: name, Run: func(ctx context.Context, run *job.Run) error {
			receipt, err := disk.Erase(ctx, found[i], disk.EraseOptions{VerifyPercent: int(o.VerifyPercent), Log: run.Log,
				Progress: func(step string, done, total int64) { run.Progress(name+": "+step, done, total, 0, 0) }})
			receipts[i] = wireReceipt(found[i], receipt)
			return reasoned(err)
		}})
	}
	return job.Plan{Phases: []job.Phase{find, work}, Finish: func(r *agent.JobResult) {
		result := &agent.EraseResult{}
		for _, receipt := range receipts {
			if receipt != nil {
				result.Receipts = append(result.Receipts, receipt)
			}
		}
		r.Result = &agent.JobResult_Erase{Erase: result}
	}}, nil
}

func selector(s *agent.DiskSelector) disk.Selector {
	return disk.Selector{Serial: s.GetSerial(), WWN: s.GetWwn(), ByPath: s.GetByPath(), SizeBytes: s.GetSizeBytes()}
}

func wireReceipt(d disk.Disk, r disk.Receipt) *agent.EraseReceipt {
	return &agent.EraseReceipt{DiskSerial: d.Info.Serial, DiskModel: d.Info.Model, SizeBytes: d.Info.SizeBytes, Wwn: d.Info.Wwn,
		Method: r.Method, StartedAt: timestamppb.New(r.Started), EndedAt: timestamppb.New(r.Ended),
		VerifiedBytes: r.VerifiedBytes, Verified: r.Verified, DoesNotProve: r.DoesNotProve}
}

// reasoned gives errors of agent/disk their reasons.
func reasoned(err error) error {
	for _, known := range []struct {
		err    error
		reason job.Reason
	}{
		{disk.ErrNone, job.ReasonNoDisks}, {disk.ErrReadOnly, job.ReasonDiskError}, {disk.ErrGone, job.ReasonDiskGone},
		{disk.ErrAmbiguous, job.ReasonDiskAmbiguous}, {disk.ErrNotErased, job.ReasonEraseUnverified},
	} {
		if errors.Is(err, known.err) {
			return job.Fail(known.reason, err)
		}
	}
	if err != nil && job.Gone(err) {
		return job.Fail(job.ReasonDiskGone, err)
	}
	return err
}
