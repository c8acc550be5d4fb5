package agentapi

import (
	"sync"

	"github.com/ingot-metal/ingot/controller/machine"
)

// hub knows the streams that this controller holds: one a machine. A newer
// stream ends the older one.
type hub struct {
	mu      sync.Mutex
	streams map[machine.ID]*stream
}

func newHub() *hub { return &hub{streams: map[machine.ID]*stream{}} }

// join puts a stream in its machine's place. An older one is told to end.
func (h *hub) join(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.streams[s.agent.id]; old != nil {
		old.end(errReplaced)
	}
	h.streams[s.agent.id] = s
}

// leave takes a stream out; false when a newer one has its place.
func (h *hub) leave(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.agent.id] != s {
		return false
	}
	delete(h.streams, s.agent.id)
	return true
}

// wake makes the streams of these machines look, or all.
func (h *hub) wake(ids []machine.ID, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if all {
		for _, s := range h.streams {
			s.look()
		}
		return
	}
	for _, id := range ids {
		if s := h.streams[id]; s != nil {
			s.look()
		}
	}
}

// compare makes those streams look whose machine's mark is another than the last
// time, or that have none: they are not counted as held here any more.
func (h *hub) compare(marks map[machine.ID]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, s := range h.streams {
		if mark := marks[id]; mark == "" || mark != s.mark {
			s.mark = mark
			s.look()
		}
	}
}
