package store

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/machine"
)

const (
	// observationsMost bounds what waits to be stored; more is dropped.
	observationsMost = 1024
	// observedOnce is how long the same thing of the same client counts once.
	observedOnce = 5 * time.Second
	// observersMost bounds the clients that are remembered for that.
	observersMost = 8192
)

// towardsAgent are the sights that mean a boot under way. DHCP is none of them:
// an installed system asks for an address too.
var towardsAgent = map[boot.What]bool{boot.SeenLoader: true, boot.SeenScript: true, boot.SeenKernel: true, boot.SeenInitramfs: true}

// observations is the queue between the boot services, which must not wait, and
// the database.
type observations struct {
	queue chan boot.Observation

	mu      sync.Mutex
	last    map[string]time.Time
	dropped uint64
}

func newObservations() *observations {
	return &observations{queue: make(chan boot.Observation, observationsMost), last: map[string]time.Time{}}
}

// BootObserved implements boot.Observer: it takes the observation and returns.
// It becomes an event when the machine is known. The same thing of the same
// client within five seconds counts once.
func (s *Store) BootObserved(_ context.Context, o boot.Observation) {
	if s.seen.repeated(o) {
		return
	}
	select {
	case s.seen.queue <- o:
	default:
		s.seen.mu.Lock()
		s.seen.dropped++
		s.seen.mu.Unlock()
	}
}

// BootObservationsDropped counts what could not be kept since the start.
func (s *Store) BootObservationsDropped() uint64 {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.dropped
}

func (q *observations) repeated(o boot.Observation) bool {
	now := o.At
	if now.IsZero() {
		now = time.Now()
	}
	key := fmt.Sprintf("%s %s %s", o.MAC, o.Addr, o.What)
	q.mu.Lock()
	defer q.mu.Unlock()
	if last, ok := q.last[key]; ok && now.Sub(last).Abs() < observedOnce {
		return true
	}
	if len(q.last) >= observersMost {
		clear(q.last) // some lines come twice then; the map stays small
	}
	q.last[key] = now
	return false
}

// runObservations stores what was observed, one after the other.
func (s *Store) runObservations(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-s.seen.queue:
			if err := s.observe(ctx, o); err != nil && ctx.Err() == nil {
				s.log.Warn("record what was seen of a booting machine", "mac", o.MAC.String(), "err", err)
			}
		}
	}
}

func (s *Store) observe(ctx context.Context, o boot.Observation) error {
	id, err := s.observed(ctx, o)
	if err != nil || id == "" {
		return err
	}
	detail := map[string]string{"what": string(o.What)}
	if len(o.MAC) > 0 {
		detail["mac"] = o.MAC.String()
	}
	if o.Addr.IsValid() {
		detail["address"] = o.Addr.String()
	}
	text := string(o.What)
	if o.Detail != "" {
		text += ": " + cut(o.Detail, 1000)
	}
	err = s.tx(ctx, "record a boot of machine "+string(id), func(tx pgx.Tx) error {
		if towardsAgent[o.What] {
			if _, err := tx.Exec(ctx, s.sql.Get("BootSeen"), id, cut(text, 200)); err != nil {
				return err
			}
		}
		return s.eventAfford(ctx, tx, id, machine.Event{Kind: machine.EventBoot, Text: text, Detail: detail})
	})
	if err == nil {
		s.changed()
	}
	return err
}

func (s *Store) observed(ctx context.Context, o boot.Observation) (machine.ID, error) {
	if len(o.MAC) > 0 {
		return s.bootMatch(ctx, o.MAC, o.UUID)
	}
	if o.Addr == (netip.Addr{}) {
		return "", nil
	}
	ids, err := collect(ctx, s.pool, s.sql.Get("BootMatchAddress"), pgx.RowTo[machine.ID], o.Addr)
	if err != nil || len(ids) != 1 {
		return "", err
	}
	return ids[0], nil
}
