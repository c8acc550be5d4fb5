package relay

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// hall is a running Board and what its members were told.
type hall struct {
	*Board
	t    *testing.T
	told map[machine.ID]Upstream // by Run alone, read while it waits
}

func inHall(t *testing.T, do func(h *hall)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &hall{NewBoard(Rules{}), t, map[machine.ID]Upstream{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		do(h)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (h *hall) enter(i int, order int64) []byte {
	h.t.Helper()
	key, ok := h.Enter(Seat{Machine: nth(i), Order: order, Image: "image", Deliver: func(u Upstream) { h.told[u.Member] = u }})
	if !ok {
		h.t.Fatalf("no seat for %s", nth(i))
	}
	return key
}

func nth(i int) machine.ID { return machine.ID(fmt.Sprintf("m%d", i)) }

// speak has members say where they are; whoever was told a peer reads from it.
func (h *hall) speak(position func(i int) uint64, members ...int) {
	h.t.Helper()
	for _, i := range members {
		s := State{URLs: []string{"http://" + string(nth(i))}, RingBytes: 1 << 30, Position: position(i), ReceivedBytes: position(i), Upstream: h.told[nth(i)].Peer}
		if !h.Report(nth(i), int64(i), s) {
			h.t.Fatalf("%s has no seat", nth(i))
		}
	}
}

// turn lets Run plan once.
func (h *hall) turn() {
	time.Sleep(planEvery)
	synctest.Wait()
}

func same(position uint64) func(int) uint64 { return func(int) uint64 { return position } }

func TestBoardLinksMembers(t *testing.T) {
	t.Parallel()
	inHall(t, func(h *hall) {
		for i := range 4 {
			h.enter(i, int64(i))
		}
		h.turn()
		if len(h.told) != 0 {
			t.Errorf("nobody has spoken, and was told %v", h.told)
		}
		h.speak(same(0), 0, 1, 2, 3)
		h.turn()
		if got, want := h.Count(), (Count{Members: 4, Heads: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestBoardPassesOverTheSilent(t *testing.T) {
	t.Parallel()
	inHall(t, func(h *hall) {
		for i := range 4 {
			h.enter(i, int64(i))
		}
		h.speak(same(0), 0, 1, 2, 3)
		h.turn()
		var reader, silent machine.ID // reads from one who reads from somebody
		for id, u := range h.told {
			if h.told[u.Peer].Peer != "" {
				reader, silent = id, u.Peer
			}
		}
		before := h.told[silent].Peer
		for range 15 {
			for i := range 4 {
				if nth(i) != silent {
					h.speak(same(0), i)
				}
			}
			h.turn()
		}
		if got := h.told[reader].Peer; got != before {
			t.Errorf("the reader of %s was given %q, want %q, which is before it", silent, got, before)
		}
	})
}

func TestBoardActsAtOnceOnAFailure(t *testing.T) {
	t.Parallel()
	inHall(t, func(h *hall) {
		for i := range 4 {
			h.enter(i, int64(i))
		}
		h.speak(same(0), 0, 1, 2, 3)
		h.turn()
		for id, u := range h.told {
			before := h.told[u.Peer].Peer
			if before == "" {
				continue
			}
			var order int64
			fmt.Sscanf(string(id), "m%d", &order)
			h.Report(id, order, State{URLs: []string{"u"}, RingBytes: 1 << 30, Failed: u.Peer, Failure: "unreachable"})
			time.Sleep(planSoon)
			synctest.Wait()
			if got := h.told[id].Peer; got != before {
				t.Errorf("%s was given %q in place of %q, want %q", id, got, u.Peer, before)
			}
			return
		}
		t.Fatal("no chain of three")
	})
}

func TestBoardKeepsASeat(t *testing.T) {
	t.Parallel()
	inHall(t, func(h *hall) {
		key := h.enter(1, 1)
		if again := h.enter(1, 1); !bytes.Equal(again, key) {
			t.Error("the same order got another key")
		}
		if other := h.enter(2, 2); !bytes.Equal(other, key) {
			t.Error("the same image got another key")
		}
		h.Away(nth(1))
		if h.Report(nth(1), 1, State{}) {
			t.Error("a state came from who is away")
		}
		h.Leave(nth(2), 2)
		h.turn()
		if again := h.enter(1, 1); !bytes.Equal(again, key) {
			t.Error("who came back to its order got another key")
		}
		h.Leave(nth(1), 1)
		h.turn()
		if fresh := h.enter(1, 9); bytes.Equal(fresh, key) {
			t.Error("the key outlived its relay")
		}
		h.Away(nth(1))
		time.Sleep(awayFor + planEvery)
		h.turn()
		if len(h.seats) != 0 || len(h.open) != 0 {
			t.Errorf("%d seats and %d tables remain, want none", len(h.seats), len(h.open))
		}
	})
}

func TestBoardKeepsOldKeysApart(t *testing.T) {
	t.Parallel()
	b := NewBoard(Rules{})
	if !b.Return(Seat{Machine: "a", Order: 1, Image: "image"}) {
		t.Fatal("no seat")
	}
	b.Enter(Seat{Machine: "b", Order: 2, Image: "image"})
	if b.seats["a"].table == b.seats["b"].table {
		t.Error("members whose keys differ share a relay")
	}
}
