package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

func (s *Server) operationNamed(ctx context.Context, id string) (machine.Operation, error) {
	if id == "" {
		return machine.Operation{}, fault.New(fault.Invalid, "no operation named: ingot operation list shows them")
	}
	if err := checkWord("operation", id); err != nil {
		return machine.Operation{}, err
	}
	return s.c.Store.OperationGet(ctx, id)
}

// OperationGet shows one operation.
func (s *Server) OperationGet(ctx context.Context, r *operator.OperationGetRequest) (*operator.Operation, error) {
	op, err := s.operationNamed(ctx, r.GetOperation())
	if err != nil {
		return nil, err
	}
	return s.showOperation(op), nil
}

// OperationList lists operations, the newest first.
func (s *Server) OperationList(ctx context.Context, r *operator.OperationListRequest) (*operator.OperationListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	id, err := s.maybe(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	list := "operations " + string(id)
	key, err := pageKey(list, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	ops, next, err := s.c.Store.OperationList(ctx, id, size, key)
	if err != nil {
		return nil, err
	}
	answer := &operator.OperationListResponse{NextPageToken: pageToken(list, next)}
	for _, op := range ops {
		answer.Operations = append(answer.Operations, s.showOperation(op))
	}
	return answer, nil
}

// maybe finds a machine if one is named.
func (s *Server) maybe(ctx context.Context, word string) (machine.ID, error) {
	if word == "" {
		return "", nil
	}
	m, err := s.find(ctx, word)
	return m.ID, err
}

// OperationCancel asks for the end of an operation. Whether it may end is the
// state's to say.
func (s *Server) OperationCancel(ctx context.Context, r *operator.OperationCancelRequest) (*operator.Operation, error) {
	op, err := s.operationNamed(ctx, r.GetOperation())
	if err != nil {
		return nil, err
	}
	op, err = s.c.Store.OperationCancel(ctx, op.ID, auth.Actor(ctx))
	if err != nil {
		return nil, err
	}
	return s.showOperation(op), nil
}

// OperationWatch sends the operation at once, then at each change, and ends when
// it has ended.
func (s *Server) OperationWatch(r *operator.OperationGetRequest, stream grpc.ServerStreamingServer[operator.Operation]) error {
	ctx := stream.Context()
	var last *operator.Operation
	return s.watch(ctx, func() (bool, error) {
		op, err := s.operationNamed(ctx, r.GetOperation())
		if err != nil {
			return false, err
		}
		now := s.showOperation(op)
		if last == nil || !proto.Equal(last, now) {
			if err := stream.Send(now); err != nil {
				return false, err
			}
			last = now
		}
		return op.State.Ended(), nil
	})
}

// watch calls look at once, then after each change in the store and at least
// every pollEvery, until it says done, fails, the caller goes or the controller
// stops. While the database is away it goes on looking, for a while.
func (s *Server) watch(ctx context.Context, look func() (done bool, err error)) error {
	wake := s.c.Store.Wake(ctx)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	const patience = 60 // looks in a row without a database
	for failed := 0; ; {
		done, err := look()
		switch {
		case fault.Is(err, fault.Unavailable) && ctx.Err() == nil && failed < patience:
			failed++
		case err != nil || done:
			return err
		default:
			failed = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return fault.New(fault.Unavailable, "the controller is stopping; watch again")
		case <-ticker.C:
		case <-wake:
			if failed > 0 {
				<-ticker.C
			}
		}
	}
}

// opened sends the headers now, so that a proxy or browser sees that the stream
// stands although nothing has happened yet.
func opened(stream grpc.ServerStream) error { return stream.SendHeader(metadata.MD{}) }
