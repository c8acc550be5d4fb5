package session

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

const (
	ordersFile = "orders"
	// maxRecords bounds the orders remembered in a boot; the oldest finished
	// ones go first. A warm machine sees a few a month.
	maxRecords = 256
	maxQueue   = 8
	// maxAttempts is how often an order is begun when the agent dies of it.
	maxAttempts = 3
)

// Planner makes a plan of an order's job. An error fails the order; its reason
// is job.ReasonOf.
type Planner func(*agent.Order) (job.Plan, error)

// record is what is remembered of an order.
type record struct {
	ID       int64
	Attempts int
	Done     bool
	Result   []byte    // encoded JobResult, once Done
	Sequence uint64    // of its last report; 0 until it is in the outbox
	After    job.After // what follows once the result is stored
}

// orders decides which orders run, runs them one after the other, and answers
// each with one result.
type orders struct {
	vault      vault
	outbox     *outbox
	runner     *job.Runner
	plan       Planner
	log        *slog.Logger
	generation func() uint64
	now        func() time.Time // the controller's clock, as well as we know it
	queue      chan *agent.Order
	changed    func(phase string) // the console wants to know what runs

	mu    sync.Mutex // guards the fields below
	state struct {
		HighestToken uint64
		Records      []record
	}
	running int64
	cancel  context.CancelCauseFunc // of the running order
	waiting map[int64]*agent.Order  // queued, as given last
}

// open reads what an earlier process of this boot left, and puts a result into
// the outbox that it had no time for.
func (o *orders) open() error {
	o.queue, o.waiting = make(chan *agent.Order, maxQueue), map[int64]*agent.Order{}
	if err := o.vault.load(ordersFile, &o.state); err != nil {
		return err
	}
	for i := range o.state.Records {
		r := &o.state.Records[i]
		if !r.Done || r.Sequence != 0 {
			continue
		}
		if r.Sequence = o.outbox.resultOf(r.ID); r.Sequence == 0 {
			o.send(r)
		}
	}
	return nil
}

func (o *orders) save() {
	if err := o.vault.save(ordersFile, o.state); err != nil {
		o.log.Error("orders not saved", "err", err)
	}
}

func (o *orders) find(id int64) *record {
	i := slices.IndexFunc(o.state.Records, func(r record) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &o.state.Records[i]
}

// remember gives the record of an order, a fresh one if need be.
func (o *orders) remember(id int64) *record {
	if r := o.find(id); r != nil {
		return r
	}
	if len(o.state.Records) >= maxRecords {
		if i := slices.IndexFunc(o.state.Records, func(r record) bool { return r.Done }); i >= 0 {
			o.state.Records = slices.Delete(o.state.Records, i, i+1)
		}
	}
	o.state.Records = append(o.state.Records, record{ID: id})
	return &o.state.Records[len(o.state.Records)-1]
}

// receive takes an order from the stream. It never blocks.
func (o *orders) receive(order *agent.Order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := o.log.With("order_id", order.Id)
	known := o.find(order.Id)
	if err := o.check(order); err != nil {
		log.Warn("order refused", "err", err)
		if known == nil {
			o.finish(o.remember(order.Id), &agent.JobResult{Outcome: agent.Outcome_OUTCOME_FAILED,
				Reason: string(job.ReasonAgentError), Detail: "order refused: " + err.Error()}, job.Stay)
		}
		return
	}
	if order.LeaseToken > o.state.HighestToken {
		o.state.HighestToken = order.LeaseToken
		o.save()
	}
	switch {
	case known != nil && known.Done:
		if !o.outbox.holds(known.Sequence) {
			log.Info("order came again, its result is repeated")
			o.send(known)
			o.save()
		}
	case order.Id == o.running:
		log.Info("order came again while it is worked on")
	case o.waiting[order.Id] != nil:
		o.waiting[order.Id] = order // with a newer token and expiry
	default:
		select {
		case o.queue <- order:
			o.waiting[order.Id] = order
			log.Info("order accepted", "kind", kindOf(order))
		default:
			// Unknown still, so it may come again when there is room.
			log.Warn("order not taken: too many are waiting", "waiting", maxQueue)
		}
	}
}

// check says why an order must not run; nil when it may.
func (o *orders) check(order *agent.Order) error {
	switch {
	case order.Id <= 0:
		return fmt.Errorf("its id is %d", order.Id)
	case order.BootGeneration != o.generation():
		return fmt.Errorf("it is for boot generation %d and this is %d", order.BootGeneration, o.generation())
	case order.LeaseToken < o.state.HighestToken:
		return fmt.Errorf("its lease token %d is lower than %d, another controller has taken over", order.LeaseToken, o.state.HighestToken)
	case order.ExpiresAt != nil && o.now().After(order.ExpiresAt.AsTime()):
		return fmt.Errorf("it expired at %v", order.ExpiresAt.AsTime())
	}
	return nil
}

// run works on accepted orders until ctx ends. An order that is running then is
// left without a result: it begins again when it is given to a new process.
func (o *orders) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case order := <-o.queue:
			o.work(ctx, order)
		}
	}
}

func (o *orders) work(life context.Context, order *agent.Order) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	attempt, ok := o.begin(order, cancel)
	if !ok {
		return
	}
	plan, err := o.planOf(order, attempt)
	if err != nil {
		plan = job.Plan{Phases: []job.Phase{job.Single("prepare", 0, func(context.Context, *job.Run) error { return err })}}
	}
	o.changed(kindOf(order))
	result, after := o.runner.Execute(ctx, order.Id, attempt, plan)
	o.changed("")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running, o.cancel = 0, nil
	if life.Err() != nil && result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED {
		return // it failed because the agent stops
	}
	o.finish(o.remember(order.Id), result, after)
}

func (o *orders) planOf(order *agent.Order, attempt int) (job.Plan, error) {
	if attempt > maxAttempts {
		return job.Plan{}, job.Failf(job.ReasonAgentError, "the agent died %d times while it worked on this order", maxAttempts)
	}
	return o.plan(order)
}

// begin notes that the order is being worked on, unless it was cancelled or
// expired while it waited.
func (o *orders) begin(order *agent.Order, cancel context.CancelCauseFunc) (attempt int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if newest := o.waiting[order.Id]; newest != nil {
		order = newest
	}
	delete(o.waiting, order.Id)
	r := o.remember(order.Id)
	if r.Done {
		return 0, false
	}
	if err := o.check(order); err != nil {
		o.finish(r, &agent.JobResult{Outcome: agent.Outcome_OUTCOME_FAILED, Reason: string(job.ReasonAgentError),
			Detail: "order refused after it waited for another one: " + err.Error()}, job.Stay)
		return 0, false
	}
	for i := range o.state.Records {
		o.state.Records[i].After = job.Stay // a newer order overrules what was to follow an older one
	}
	r.Attempts++
	o.running, o.cancel = order.Id, cancel
	o.save()
	return r.Attempts, true
}

// finish gives an order its one result. The record is saved before the report
// is made, so a crash between the two loses nothing (see open).
func (o *orders) finish(r *record, result *agent.JobResult, after job.After) {
	if r.Done {
		return
	}
	data, err := encode(result)
	if err != nil {
		o.log.Error("result not encoded", "err", err)
		data, _ = encode(&agent.JobResult{Outcome: agent.Outcome_OUTCOME_FAILED,
			Reason: string(job.ReasonAgentError), Detail: "the result could not be encoded"})
		after = job.Stay
	}
	r.Done, r.Result, r.After = true, data, after
	o.save()
	o.send(r)
	o.save()
}

func (o *orders) send(r *record) {
	result := &agent.JobResult{}
	if err := proto.Unmarshal(r.Result, result); err != nil {
		o.log.Error("result not decoded", "order_id", r.ID, "err", err)
	}
	r.Sequence = o.outbox.append(&agent.Report{OrderId: r.ID, Report: &agent.Report_Result{Result: result}})
}

// cancelOrder ends an order, wherever it is. One that is not known yet is
// answered too, so that it does not run should it come later.
func (o *orders) cancelOrder(c *agent.Cancel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.Info("order is cancelled", "order_id", c.OrderId, "reason", c.Reason)
	if c.OrderId == o.running && o.cancel != nil {
		o.cancel(job.Cancelled(c.Reason))
		return
	}
	if c.OrderId <= 0 {
		return
	}
	o.finish(o.remember(c.OrderId), &agent.JobResult{Outcome: agent.Outcome_OUTCOME_CANCELLED,
		Reason: string(job.ReasonCancelled), Detail: job.Cancelled(c.Reason).Error() + " before it began"}, job.Stay)
}

// proceed tells what follows the stored result of an order.
func (o *orders) proceed(id int64) job.After {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.find(id)
	if r == nil || !r.Done {
		o.log.Warn("told to proceed with an order that has no result", "order_id", id)
		return job.Stay
	}
	return r.After
}

func (o *orders) runningID() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.running
}

// openID is the order that the controller is to speak about in a new stream: the
// running one, else one whose result was given and that something is to follow,
// for the word to proceed may have been lost with the last stream.
func (o *orders) openID() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running != 0 {
		return o.running
	}
	for _, r := range slices.Backward(o.state.Records) {
		if r.Done && r.After != job.Stay {
			return r.ID
		}
	}
	return 0
}

func kindOf(order *agent.Order) string {
	switch order.Job.(type) {
	case *agent.Order_Commission:
		return "commission"
	case *agent.Order_Deploy:
		return "deploy"
	case *agent.Order_Erase:
		return "erase"
	case *agent.Order_Power:
		return "power"
	}
	return "unknown"
}
