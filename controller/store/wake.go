package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// wakePause is the least time between two notifications of one controller:
	// a notification takes a lock of the whole database at commit.
	wakePause = 50 * time.Millisecond
	// listenAgain is the pause before a lost listening connection is made anew.
	listenAgain = time.Second
)

// wake spreads the news that something changed: at once inside the process, and
// at most every wakePause to the other controllers. It may be lost; everyone
// polls as well.
type wake struct {
	tell chan struct{} // to the notifier

	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

func newWake() *wake {
	return &wake{tell: make(chan struct{}, 1), subs: map[chan struct{}]struct{}{}}
}

// Wake returns a channel that gets a value soon after anything changed, until
// ctx ends. Values coalesce and may be lost: poll every second as well.
func (s *Store) Wake(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	w := s.wake
	w.mu.Lock()
	w.subs[c] = struct{}{}
	w.mu.Unlock()
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, c)
	})
	return c
}

// changed is called after a commit that others may wait for.
func (s *Store) changed() {
	s.wake.spread()
	poke(s.wake.tell)
}

func (w *wake) spread() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subs {
		poke(c)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runNotify sends one notification for all changes of a pause.
func (s *Store) runNotify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake.tell:
		}
		if _, err := s.pool.Exec(ctx, "NOTIFY ingot_wake"); err != nil && ctx.Err() == nil {
			s.log.Warn("notify other controllers", "err", err)
		}
		rest(ctx, wakePause)
	}
}

// runListen passes on what other controllers notify, over a connection of its
// own.
func (s *Store) runListen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.listen(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("listen for other controllers", "err", err)
			rest(ctx, listenAgain)
		}
	}
}

func (s *Store) listen(ctx context.Context) error {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	conn := pooled.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN ingot_wake"); err != nil {
		return err
	}
	s.wake.spread() // for what was missed before
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		s.wake.spread()
	}
}

// rest waits for d or for the end of ctx.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
