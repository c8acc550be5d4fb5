package session_test

import (
	"testing"

	"github.com/ingot-metal/ingot/proto/agent"
)

// TestHelloNamesWhatAwaitsProceed: the word to go on may have been lost with a
// stream, so the next one asks for it.
func TestHelloNamesWhatAwaitsProceed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(l.config())
	s := l.stream()
	o := order(7, 1)
	o.Job = &agent.Order_Deploy{Deploy: &agent.DeployJob{}}
	give(s, o)
	l.wait("the result", func() bool { return len(l.results(7)) == 1 })
	s.end()
	l.stream()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.hellos[len(l.hellos)-1].GetRunningOrderId(); got != 7 {
		t.Errorf("order in the second hello: got %d, want 7", got)
	}
}
