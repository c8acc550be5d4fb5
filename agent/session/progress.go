package session

import (
	"sync"

	"github.com/ingot-metal/ingot/proto/agent"
)

// progressSlot holds the newest progress only; the sender takes it a few times
// a second.
type progressSlot struct {
	ready chan struct{} // holds a token when there is something to take

	mu     sync.Mutex // guards newest
	newest *agent.Progress
}

func (p *progressSlot) put(m *agent.Progress) {
	p.mu.Lock()
	p.newest = m
	p.mu.Unlock()
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

func (p *progressSlot) take() *agent.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.newest
	p.newest = nil
	return m
}
