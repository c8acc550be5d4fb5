package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// supervisor keeps the agent running.
type supervisor struct {
	log   *slog.Logger
	start func() (pid int, err error)
	// wait blocks until the process ends, reaping orphans on the way, and says
	// how it ended.
	wait func(pid int) string
	// kill asks the process to end, and after a while makes it.
	kill func(ctx context.Context, pid int)
	// sleep returns early when ctx ends.
	sleep func(ctx context.Context, d time.Duration)
	now   func() time.Time
}

const (
	firstBackoff = time.Second
	maxRestarts  = 3
	// settled is how long an agent must have run for its earlier ends to be
	// forgotten: a warm agent lives for months.
	settled = 10 * time.Minute
	// killGrace is what an agent gets to end by itself.
	killGrace = 10 * time.Second
)

// errAgent is the cause of a reboot after the last restart.
var errAgent = errors.New("agent ended again and again")

// run starts the agent and starts it again when it ends. It returns when ctx
// ends (then with its cause) or when restarts do not help (errAgent); no
// agent is running then.
func (s supervisor) run(ctx context.Context) error {
	backoff := firstBackoff
	for restarts := 0; ; restarts++ {
		began := s.now()
		how := s.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.now().Sub(began) >= settled {
			restarts, backoff = 0, firstBackoff
		}
		if restarts == maxRestarts {
			return fmt.Errorf("%w: %s", errAgent, how)
		}
		s.log.Error("agent ended", "how", how, "attempt", restarts+1, "restart_in", backoff)
		s.sleep(ctx, backoff)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		backoff *= 4
	}
}

// once runs the agent to its end and says how that came.
func (s supervisor) once(ctx context.Context) string {
	pid, err := s.start()
	if err != nil {
		return err.Error()
	}
	s.log.Info("agent started", "pid", pid)
	killed := make(chan struct{})
	over, ended := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		s.kill(over, pid)
	})
	how := s.wait(pid)
	ended()
	if !stop() {
		<-killed
	}
	return how
}
