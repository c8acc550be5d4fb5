package lifecycle

import (
	"context"
	"log/slog"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// reapEvery keeps invariant I7: nothing stays in a passing state more than 15 s
// past its deadline.
const reapEvery = 5 * time.Second

// Overdue is what the reaper needs of the store.
type Overdue interface {
	// MachineOverdue lists machines past the deadline of their state.
	MachineOverdue(ctx context.Context) ([]machine.ID, error)
	// MachineTimeout fails the machine's operation with the reason that the
	// table names, if it is still past its deadline.
	MachineTimeout(ctx context.Context, id machine.ID) error
}

// Reaper ends what is past its deadline. It does not trust the engine: it
// reads the deadline column and nothing else.
type Reaper struct {
	overdue Overdue
	log     *slog.Logger
}

// NewReaper makes a reaper.
func NewReaper(overdue Overdue, log *slog.Logger) *Reaper {
	return &Reaper{overdue: overdue, log: log}
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			r.reap(ctx)
		}
	}
}

func (r *Reaper) reap(ctx context.Context) {
	ids, err := r.overdue.MachineOverdue(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("look for overdue machines", "err", err)
		}
		return
	}
	for _, id := range ids {
		if err := r.overdue.MachineTimeout(ctx, id); err != nil {
			r.log.Warn("time out a machine", "machine_id", id, "err", err)
			continue
		}
		r.log.Warn("deadline passed", "machine_id", id)
	}
}
