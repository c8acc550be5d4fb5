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

// leave takes a stream out, unless another has its place.
func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.agent.id] == s {
		delete(h.streams, s.agent.id)
	}
}

// each calls f with every stream of the moment.
func (h *hub) each(f func(*stream)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		f(s)
	}
}
