package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

const (
	// wakePause is the least time between two notifications of one controller:
	// a notification takes a lock of the whole database at commit.
	wakePause = 50 * time.Millisecond
	// listenAgain is the pause before a lost listening connection is made anew.
	listenAgain = time.Second
)

// machinesAtOnce bounds the machines that one wake-up names; more means all.
// PostgreSQL takes notifications of less than 8000 bytes.
const machinesAtOnce = 1000

// wake spreads the news that something changed: at once inside the process, and
// at most every wakePause to the other controllers. It may be lost; everyone
// polls as well.
type wake struct {
	self string // tells our own notifications from others'
	tell *MachineWake

	mu       sync.Mutex
	subs     map[chan struct{}]struct{}
	machines map[*MachineWake]struct{}
}

func newWake() *wake {
	return &wake{self: randomWord(8), tell: newMachineWake(), subs: map[chan struct{}]struct{}{}, machines: map[*MachineWake]struct{}{}}
}

// MachineWake says which machines something changed for that who holds their
// agents must know. Take may be called from one goroutine.
type MachineWake struct {
	// C gets a value when there is something to take.
	C chan struct{}

	mu  sync.Mutex
	ids map[machine.ID]struct{}
	all bool
}

func newMachineWake() *MachineWake {
	return &MachineWake{C: make(chan struct{}, 1), ids: map[machine.ID]struct{}{}}
}

// Take gives the machines since the last call, each once; all means any.
func (w *MachineWake) Take() (ids []machine.ID, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all = w.all
	for id := range w.ids {
		ids = append(ids, id)
	}
	clear(w.ids)
	w.all = false
	return ids, all
}

func (w *MachineWake) add(ids []machine.ID, all bool) {
	w.mu.Lock()
	for _, id := range ids {
		w.ids[id] = struct{}{}
	}
	if w.all = w.all || all || len(w.ids) > machinesAtOnce; w.all {
		clear(w.ids)
	}
	w.mu.Unlock()
	poke(w.C)
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

// WakeMachines tells for which machines there may be an order, or another state
// to show, until ctx ends. It may be lost: look at AgentsHeld as well.
func (s *Store) WakeMachines(ctx context.Context) *MachineWake {
	m, w := newMachineWake(), s.wake
	w.mu.Lock()
	w.machines[m] = struct{}{}
	w.mu.Unlock()
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.machines, m)
	})
	return m
}

// changed is called after a commit that others may wait for, with the machines
// whose agents it may concern.
func (s *Store) changed(ids ...machine.ID) {
	s.wake.spread(ids, false)
	s.wake.tell.add(ids, false)
}

func (w *wake) spread(ids []machine.ID, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subs {
		poke(c)
	}
	if len(ids) == 0 && !all {
		return
	}
	for m := range w.machines {
		m.add(ids, all)
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
		case <-s.wake.tell.C:
		}
		if _, err := s.pool.Exec(ctx, s.sql.Get("WakeNotify"), s.wake.word()); err != nil && ctx.Err() == nil {
			s.log.Warn("notify other controllers", "err", err)
		}
		rest(ctx, wakePause)
	}
}

// word is what a notification says: who sends it, and the machines or a star.
func (w *wake) word() string {
	ids, all := w.tell.Take()
	if all {
		return w.self + " *"
	}
	text := []byte(w.self)
	for _, id := range ids {
		text = append(append(text, ' '), id...)
	}
	return string(text)
}

// hear passes on what another controller notified.
func (w *wake) hear(word string) {
	words := strings.Fields(word)
	if len(words) > 0 && words[0] == w.self {
		return // known already
	}
	var ids []machine.ID
	for _, id := range words[min(1, len(words)):] {
		if id == "*" {
			w.spread(nil, true)
			return
		}
		ids = append(ids, machine.ID(id))
	}
	w.spread(ids, false)
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
	s.wake.spread(nil, true) // for what was missed before
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		s.wake.hear(n.Payload)
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
