package agentapi

import (
	"slices"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

// TestOnlyConcernedStreamsLook: with thousands of agents, a change of one machine
// must not make all of them ask the database.
func TestOnlyConcernedStreamsLook(t *testing.T) {
	t.Parallel()
	h := newHub()
	for _, id := range []machine.ID{"a", "b", "c"} {
		h.join(&stream{agent: member{id: id}, wake: make(chan struct{}, 1)})
	}
	looked := func() (ids []machine.ID) {
		for id, s := range h.streams {
			select {
			case <-s.wake:
				ids = append(ids, id)
			default:
			}
		}
		slices.Sort(ids)
		return ids
	}
	for _, tt := range []struct {
		what string
		do   func()
		want []machine.ID
	}{
		{"a wake-up of one", func() { h.wake([]machine.ID{"b", "elsewhere"}, false) }, []machine.ID{"b"}},
		{"a wake-up of all", func() { h.wake(nil, true) }, []machine.ID{"a", "b", "c"}},
		{"the first comparison", func() { h.compare(map[machine.ID]string{"a": "1", "b": "1", "c": "1"}) }, []machine.ID{"a", "b", "c"}},
		{"nothing new", func() { h.compare(map[machine.ID]string{"a": "1", "b": "1", "c": "1"}) }, nil},
		{"one changed, one not held any more", func() { h.compare(map[machine.ID]string{"a": "2", "b": "1"}) }, []machine.ID{"a", "c"}},
		{"and still not", func() { h.compare(map[machine.ID]string{"a": "2", "b": "1"}) }, []machine.ID{"c"}},
	} {
		tt.do()
		if got := looked(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.what, got, tt.want)
		}
	}
}

// TestLateEndOfAnOlderStream: it must not take the machine's seat in a relay away,
// which the newer one has.
func TestLateEndOfAnOlderStream(t *testing.T) {
	t.Parallel()
	h := newHub()
	older, newer := &stream{cancel: func(error) {}}, &stream{cancel: func(error) {}}
	h.join(older)
	h.join(newer)
	for _, tt := range []struct {
		name string
		s    *stream
		want bool
	}{{"the older one", older, false}, {"the newer one", newer, true}} {
		if got := h.leave(tt.s); got != tt.want {
			t.Errorf("%s leaves as the machine's last: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
