package relay

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

const (
	// planEvery is how often a group is planned anew while its members speak;
	// planSoon how soon after a peer has failed.
	planEvery = 250 * time.Millisecond
	planSoon  = 50 * time.Millisecond
	// awayFor is how long a seat is kept for a machine that is not connected.
	awayFor = 10 * time.Minute
	// maxSeats bounds what one controller remembers.
	maxSeats = 50_000
	// keyBytes is the length of a group's key.
	keyBytes = 32
)

// Board holds the groups of this controller, in memory, and plans them in Run. Its
// methods may be called from many goroutines and never wait for a plan.
type Board struct {
	rules Rules

	mu     sync.Mutex // guards the fields below, and those of seats and tables
	open   map[string]*table
	seats  map[machine.ID]*seat
	queue  []*seat
	count  Count
	cuts   int // of tables that are gone
	urgent chan struct{}
}

// table is a group, with the key that its members share. Only Run touches group.
type table struct {
	name  string
	key   []byte
	group *Group
	seats int
	dirty bool
}

// seat is a machine's place in a relay, for one order.
type seat struct {
	id      machine.ID
	order   int64
	place   Place
	table   *table
	deliver func(Upstream)
	away    time.Time // since when it is not connected; zero: it is

	queued  bool // the fields below hold news for Run
	leaves  bool
	news    State
	hasNews bool
}

// NewBoard makes an empty one.
func NewBoard(rules Rules) *Board {
	return &Board{rules: rules, open: map[string]*table{}, seats: map[machine.ID]*seat{}, urgent: make(chan struct{}, 1)}
}

// Seat is what a machine enters with.
type Seat struct {
	Machine machine.ID
	Order   int64
	Image   string // digest
	Place   Place
	// Deliver hands the machine its upstream. It must not wait, and is called by
	// Run alone.
	Deliver func(Upstream)
}

// Enter gives a machine a seat in the relay of an image, before it begins with its
// order, and the relay's key; the same for the same order. False means that there
// is no room.
func (b *Board) Enter(s Seat) (key []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.enter(s, s.Image)
}

// Return gives a machine a seat that works on an order whose key this Board does
// not know: another process gave it. Such machines relay among themselves.
func (b *Board) Return(s Seat) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.enter(s, s.Image+" of before")
	return ok
}

func (b *Board) enter(s Seat, name string) ([]byte, bool) {
	if old := b.seats[s.Machine]; old != nil {
		if old.order == s.Order {
			old.deliver, old.away = s.Deliver, time.Time{}
			return old.table.key, true
		}
		b.leave(old)
	}
	if len(b.seats) >= maxSeats {
		return nil, false
	}
	t := b.open[name]
	if t == nil {
		t = &table{name: name, key: make([]byte, keyBytes), group: NewGroup(b.rules)}
		_, _ = rand.Read(t.key) // never fails, see its manual
		b.open[name] = t
	}
	t.seats++
	b.seats[s.Machine] = &seat{id: s.Machine, order: s.Order, place: s.Place, table: t, deliver: s.Deliver}
	return t.key, true
}

// Report takes a machine's state. False means that it has no seat for this order.
func (b *Board) Report(id machine.ID, order int64, s State) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.seats[id]
	if at == nil || at.order != order || !at.away.IsZero() {
		return false
	}
	if s.Failed == "" && at.hasNews {
		s.Failed, s.Failure = at.news.Failed, at.news.Failure
	}
	at.news, at.hasNews = s, true
	b.enqueue(at)
	if s.Failed != "" {
		select {
		case b.urgent <- struct{}{}:
		default:
		}
	}
	return true
}

// Away says that a machine's stream ended: it serves nobody until it enters again,
// with the same order, which it may for some minutes.
func (b *Board) Away(id machine.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := b.seats[id]; at != nil && at.away.IsZero() {
		at.away, at.leaves, at.hasNews, at.deliver = time.Now(), true, false, nil
		b.enqueue(at)
	}
}

// Leave ends a machine's seat, if it is for this order: its deploy is over.
func (b *Board) Leave(id machine.ID, order int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := b.seats[id]; at != nil && at.order == order {
		b.leave(at)
	}
}

func (b *Board) leave(at *seat) {
	delete(b.seats, at.id)
	at.leaves, at.hasNews, at.deliver = true, false, nil
	at.table.seats--
	b.enqueue(at)
}

func (b *Board) enqueue(at *seat) {
	if !at.queued {
		at.queued = true
		b.queue = append(b.queue, at)
	}
}

// Count adds up all groups, as they were planned last.
func (b *Board) Count() Count {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Run plans until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	ticker := time.NewTicker(planEvery)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-b.urgent:
			if wait := planSoon - time.Since(last); wait > 0 {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(wait):
				}
			}
		}
		last = time.Now()
		b.turn(last)
	}
}

// turn hands the groups what came since the last one, and plans those.
func (b *Board) turn(now time.Time) {
	b.drain(now)
	b.mu.Lock()
	tables := slices.Collect(maps.Values(b.open))
	b.mu.Unlock()
	count := Count{}
	for _, t := range tables {
		if t.dirty || !t.group.Empty() {
			t.dirty = false
			b.hand(t.group.Plan(now))
		}
		c := t.group.Count()
		count.Members += c.Members
		count.Heads += c.Heads
		count.Slow += c.Slow
		count.Reforms += c.Reforms
	}
	b.sweep(now, count)
}

// drain gives the groups what their members said.
func (b *Board) drain(now time.Time) {
	type word struct {
		at     *seat
		leaves bool
		news   State
		speaks bool
	}
	b.mu.Lock()
	words := make([]word, len(b.queue))
	for i, at := range b.queue {
		words[i] = word{at, at.leaves, at.news, at.hasNews}
		at.queued, at.leaves, at.hasNews = false, false, false
	}
	b.queue = b.queue[:0]
	b.mu.Unlock()
	for _, w := range words {
		g := w.at.table.group
		if w.leaves {
			g.Leave(w.at.id)
		}
		if w.speaks && !g.Report(w.at.id, w.news, now) && g.Join(w.at.id, w.at.place, now) {
			g.Report(w.at.id, w.news, now)
		}
		w.at.table.dirty = true
	}
}

// hand delivers.
func (b *Board) hand(news []Upstream) {
	for _, u := range news {
		b.mu.Lock()
		var deliver func(Upstream)
		if at := b.seats[u.Member]; at != nil {
			deliver = at.deliver
		}
		b.mu.Unlock()
		if deliver != nil {
			deliver(u)
		}
	}
}

// sweep ends seats whose machines stay away, and tables at which nobody sits.
func (b *Board) sweep(now time.Time, count Count) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.seats {
		if !at.away.IsZero() && now.Sub(at.away) > awayFor {
			b.leave(at)
		}
	}
	for name, t := range b.open {
		if t.seats == 0 && t.group.Empty() {
			b.cuts += t.group.Count().Reforms
			count.Reforms -= t.group.Count().Reforms
			delete(b.open, name)
		}
	}
	count.Reforms += b.cuts
	b.count = count
}
