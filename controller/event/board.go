// Package event holds what happens to machines at the moment: the board of
// progress, which is never a row. The history that is kept is the store's.
package event

import (
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

// Progress is how far an agent is with its order. It is lost with the
// controller that holds the agent's stream; nothing depends on it.
type Progress struct {
	OrderID        int64
	Phase          string
	DoneBytes      uint64
	TotalBytes     uint64
	FetchedBytes   uint64
	BytesPerSecond uint64
	At             time.Time
}

// Board holds the last progress of each machine whose agent is connected here.
// Its methods may be called concurrently. It holds one entry a machine.
type Board struct {
	mu      sync.RWMutex
	entries map[machine.ID]Progress
}

// NewBoard makes an empty board.
func NewBoard() *Board { return &Board{entries: map[machine.ID]Progress{}} }

// Put notes progress.
func (b *Board) Put(id machine.ID, p Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[id] = p
}

// Drop forgets a machine.
func (b *Board) Drop(id machine.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, id)
}

// Get returns a machine's progress; ok is false when there is none here.
func (b *Board) Get(id machine.ID) (p Progress, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	p, ok = b.entries[id]
	return p, ok
}
