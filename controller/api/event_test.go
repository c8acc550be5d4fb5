package api_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/operator"
)

// TestHistoryOutlivesItsMachine: what happened to a machine that was deleted is
// found by its id, and by nothing else.
func TestHistoryOutlivesItsMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.add(1)
	before, err := s.events.EventList(t.Context(), &operator.EventListRequest{Machine: m.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.machines.MachineDelete(t.Context(), &operator.MachineDeleteRequest{Machine: "m1"}); err != nil {
		t.Fatal(err)
	}
	got, err := s.events.EventList(t.Context(), &operator.EventListRequest{Machine: m.GetId()})
	if err != nil || len(got.GetEvents()) != len(before.GetEvents())+1 || !strings.HasPrefix(got.GetEvents()[len(before.GetEvents())].GetText(), "deleted by tester") {
		t.Fatalf("got %v, %v, want %v and its end", got, err, before)
	}
	if code, text := s.rest("GET", "/v1/events?machine="+strings.ToUpper(m.GetId()), s.token, nil); code != 200 || !strings.Contains(text, "deleted by tester") {
		t.Errorf("REST: %d %s", code, text)
	}
	for _, word := range []string{"m1", "52:54:00:00:00:01", "zzzzzz"} {
		_, err := s.events.EventList(t.Context(), &operator.EventListRequest{Machine: word})
		wantRefusal(t, word, err, codes.NotFound, word, "by its id")
	}
	_, err = s.machines.MachineGet(t.Context(), &operator.MachineGetRequest{Machine: m.GetId()})
	wantRefusal(t, "the machine itself", err, codes.NotFound)

	ctx, cancel := context.WithCancel(s.soon())
	defer cancel()
	watch, err := s.events.EventWatch(ctx, &operator.EventWatchRequest{Machine: m.GetId(), ResumeToken: "0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range got.GetEvents() {
		if e, err := watch.Recv(); err != nil || e.GetSequence() != want.GetSequence() {
			t.Fatalf("watched %v, %v, want %v", e, err, want)
		}
	}
	if _, token, err := s.store.EventAfter(t.Context(), "", machine.ID(m.GetId()), 1); err != nil || token == "" {
		t.Errorf("a watch from now on: %q, %v", token, err)
	}
}
