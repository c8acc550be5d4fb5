package lifecycle

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// leaseFor bounds a turn: deciding takes microseconds, saving one
	// transaction.
	leaseFor = 30 * time.Second
	// turnsAtOnce bounds what one claim takes.
	turnsAtOnce = 32
	// tick is the floor under wake-ups, which may be lost.
	tick = time.Second
)

// Turns is what the engine needs of the store.
type Turns interface {
	// MachineClaim leases machines that are due, at most limit, to the holder.
	MachineClaim(ctx context.Context, holder string, leaseFor time.Duration, limit int) ([]machine.Snapshot, error)
	// DecisionSave saves a decision in one transaction. fault.Stale means that
	// another holder has the machine now; nothing was saved.
	DecisionSave(ctx context.Context, s machine.Snapshot, d machine.Decision) error
}

// Engine takes turns with due machines. Several controllers may run one each.
type Engine struct {
	turns  Turns
	holder string
	log    *slog.Logger
	wake   <-chan struct{}
}

// NewEngine makes an engine that leases machines as holder. Wake may be nil;
// without it machines are looked at every second.
func NewEngine(turns Turns, holder string, wake <-chan struct{}, log *slog.Logger) *Engine {
	return &Engine{turns: turns, holder: holder, wake: wake, log: log}
}

// Run takes turns until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		full := e.round(ctx)
		if full && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-ticker.C:
		}
	}
}

// round takes one turn with each machine that is due; full says that there may
// be more.
func (e *Engine) round(ctx context.Context) (full bool) {
	due, err := e.turns.MachineClaim(ctx, e.holder, leaseFor, turnsAtOnce)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("claim due machines", "err", err)
		}
		return false
	}
	var turns sync.WaitGroup
	for _, s := range due {
		turns.Go(func() { e.turn(ctx, s) })
	}
	turns.Wait()
	return len(due) == turnsAtOnce
}

func (e *Engine) turn(ctx context.Context, s machine.Snapshot) {
	d := Decide(s)
	err := e.turns.DecisionSave(ctx, s, d)
	log := e.log.With("machine_id", s.Machine.ID, "state_from", s.Machine.State)
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
		// It would be refused for ever: the operation ends with that as its cause.
		log.Error("decision refused", "err", err)
		d = refused(s, err)
		err = e.turns.DecisionSave(ctx, s, d)
	}
	switch {
	case fault.Is(err, fault.Stale):
		log.Info("turn lost to another controller", "err", err)
	case err != nil && ctx.Err() == nil:
		log.Warn("save decision", "err", err)
	case err != nil:
	case d.Go != nil:
		log.Info("state changed", "state_to", d.Go.To)
	case d.End != nil:
		log.Info("operation ended", "state_to", d.End.To, "outcome", d.End.Outcome, "reason", d.End.Reason, "detail", d.End.Detail)
	}
}

// refused ends an operation whose next decision the store does not take.
func refused(s machine.Snapshot, err error) machine.Decision {
	t := &turn{s: s}
	if s.Operation == nil || s.Operation.State.Ended() {
		t.idle()
		return t.d
	}
	t.fail(machine.ReasonUnknown, "what was to be done next was refused: "+err.Error())
	return t.d
}

// handlers has one row a state; a test compares it with machine.Table.
var handlers = map[machine.State]func(*turn){
	machine.Enrolled:      rest,
	machine.Commissioning: commissioning,
	machine.Ready:         rest,
	machine.Allocated:     rest,
	machine.Deploying:     deploying,
	machine.Deployed:      rest,
	machine.Releasing:     releasing,
	machine.Erasing:       erasing,
	machine.Broken:        rest,
}

// Decide is the whole of the lifecycle's judgement: pure, so that it may be
// asked any number of times.
func Decide(s machine.Snapshot) machine.Decision {
	t := &turn{s: s}
	if op := s.Operation; op == nil || op.State.Ended() {
		t.idle()
		return t.d
	}
	if t.cancelled() {
		return t.d
	}
	handlers[s.Machine.State](t)
	return t.d
}
