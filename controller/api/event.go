package api

import (
	"context"
	"strconv"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

func showEvent(e store.Event) *operator.Event {
	return &operator.Event{
		MachineId: string(e.MachineID), Sequence: e.Sequence, At: at(e.At), Kind: e.Kind, Text: e.Text, Detail: e.Detail, ResumeToken: e.Token,
	}
}

// eventsOf finds whose history is asked for; "" is everybody's.
func (s *Server) eventsOf(ctx context.Context, word string) (machine.ID, error) {
	if word == "" {
		return "", nil
	}
	if err := checkMachine(word); err != nil {
		return "", err
	}
	return s.c.Store.EventMachineFind(ctx, word)
}

// EventList lists the history of one machine, or of all, the oldest first.
func (s *Server) EventList(ctx context.Context, r *operator.EventListRequest) (*operator.EventListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	id, err := s.eventsOf(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	list := "events " + string(id)
	key, err := pageKey(list, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	events, next, err := s.eventPage(ctx, id, key, size)
	if err != nil {
		return nil, err
	}
	answer := &operator.EventListResponse{}
	for _, e := range events {
		answer.Events = append(answer.Events, showEvent(e))
	}
	if len(events) == size {
		answer.NextPageToken = pageToken(list, next)
	}
	return answer, nil
}

// eventPage reads one machine's events by sequence and those of all machines by
// resume token.
func (s *Server) eventPage(ctx context.Context, id machine.ID, key string, size int) ([]store.Event, string, error) {
	if id == "" {
		if key == "" {
			key = "0"
		}
		return s.c.Store.EventAfter(ctx, key, "", size)
	}
	var after uint64
	if key != "" {
		var err error
		if after, err = strconv.ParseUint(key, 10, 63); err != nil {
			return nil, "", fault.New(fault.Invalid, "the page token is damaged; leave it out to begin anew")
		}
	}
	events, err := s.c.Store.EventList(ctx, id, after, size)
	if len(events) > 0 {
		after = events[len(events)-1].Sequence
	}
	return events, strconv.FormatUint(after, 10), err
}

// watchBatch is how many events are read at a time.
const watchBatch = 200

// EventWatch streams events from a resume token on, and goes on with new ones.
func (s *Server) EventWatch(r *operator.EventWatchRequest, stream grpc.ServerStreamingServer[operator.Event]) error {
	ctx := stream.Context()
	token := r.GetResumeToken()
	if err := checkWord("resume token", token); err != nil {
		return err
	}
	id, err := s.eventsOf(ctx, r.GetMachine())
	if err != nil {
		return err
	}
	begun := false
	return s.watch(ctx, func() (bool, error) {
		for full := true; full; {
			events, next, err := s.c.Store.EventAfter(ctx, token, id, watchBatch)
			if err != nil {
				return false, err
			}
			if !begun { // a good token: the stream stands
				if err := opened(stream); err != nil {
					return false, err
				}
				begun = true
			}
			for _, e := range events {
				if err := stream.Send(showEvent(e)); err != nil {
					return false, err
				}
			}
			token, full = next, len(events) == watchBatch
		}
		return false, nil
	})
}
