package job

import (
	"context"
	"log/slog"
	"time"

	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// After is what follows a successful result, once the controller has stored it.
type After string

// The ways to go on. They are words and not functions, so that an agent that
// was restarted in between still knows what it was about to do.
const (
	Stay     After = ""
	Kexec    After = "kexec"
	Reboot   After = "reboot"
	PowerOff After = "power-off"
)

// Plan is what an order asks for, ready to run.
type Plan struct {
	Phases []Phase
	// Finish fills the result that is about to be sent: the message of the job's
	// kind and its warnings. It is called once, after the last phase or after
	// the one that failed; outcome, reason and detail are set already, and it
	// may make a success a failure by its own judgement (a test that failed).
	Finish func(*agent.JobResult)
	// After tells what follows a success; nil means Stay. Called after Finish.
	After func() After
}

// Phase is one step of a plan. Its tasks run together; the first that fails
// ends the others.
type Phase struct {
	Name  string
	Limit time.Duration // for the whole phase; 0 means DefaultLimit
	Tasks []Task
	// Independent tasks go on when another one fails; the phase fails after all.
	Independent bool
}

// DefaultLimit is how long a phase may take that names no limit.
const DefaultLimit = 10 * time.Minute

// Task is one piece of work. Run must return soon after ctx ended.
type Task struct {
	// Name may be empty when a phase has one task only; it then has no events
	// of its own.
	Name string
	Run  func(ctx context.Context, run *Run) error
}

// Single is a phase with one nameless task.
func Single(name string, limit time.Duration, run func(context.Context, *Run) error) Phase {
	return Phase{Name: name, Limit: limit, Tasks: []Task{{Run: run}}}
}

// Reporter takes what a job has to tell. Calls are allowed in parallel; none
// waits for the network. Report sets sequence and time itself.
type Reporter interface {
	Report(*agent.Report)
	// Progress may be dropped.
	Progress(*agent.Progress)
}

// Run is what a task sees of the order that it works for.
type Run struct {
	OrderID int64
	// Attempt counts the starts of this order in this boot, from 1. More than 1
	// means that the agent died while it worked on it.
	Attempt int
	// Phase is the name of the phase.
	Phase string
	Log   *slog.Logger

	to Reporter
}

// Progress tells how far the phase is, in bytes. total, fetched and rate may be
// 0 for unknown. The phase shown is name, or the plan's phase if it is empty.
func (r *Run) Progress(name string, done, total, fetched, rate int64) {
	if name == "" {
		name = r.Phase
	}
	r.to.Progress(&agent.Progress{
		OrderId: r.OrderID, Phase: name, DoneBytes: positive(done), TotalBytes: positive(total),
		FetchedBytes: positive(fetched), BytesPerSecond: positive(rate),
	})
}

func positive(n int64) uint64 { return uint64(max(n, 0)) }

// Collection reports an inventory.
func (r *Run) Collection(c *hardware.Collection) {
	r.to.Report(&agent.Report{OrderId: r.OrderID, Report: &agent.Report_Collection{Collection: c}})
}

// Test reports the result of one hardware test.
func (r *Run) Test(t *hardware.TestResult) {
	r.to.Report(&agent.Report{OrderId: r.OrderID, Report: &agent.Report_Test{Test: t}})
}
