package api

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/proto/fault"
)

// guardUnary bounds a call, keeps a panic from ending the process, and makes
// errors fit to be shown.
func (s *Server) guardUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, s.panicked(info.FullMethod, p)
		}
	}()
	answer, err = next(ctx, req)
	return answer, s.shown(info.FullMethod, err)
}

func (s *Server) guardStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(info.FullMethod, p)
		}
	}()
	return s.shown(info.FullMethod, next(srv, stream))
}

var errInternal = status.Error(codes.Internal, "the controller has a defect or met something unforeseen; its log says what")

func (s *Server) panicked(method string, p any) error {
	s.log.Error("panic while serving", "method", method, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	return errInternal
}

// shown gives an error that a caller may see: one of a kind as it is, any other
// only to the log.
func (s *Server) shown(method string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) && known.Kind == fault.Unavailable && known.Err != nil {
		// Its cause names hosts and users of the database, and nobody has shown a
		// token yet.
		s.log.Warn("call could not be served now", "method", method, "err", err)
		return status.Error(codes.Unavailable, known.Text+": a part of the controller does not answer now, try again; /healthz says which")
	}
	if errors.As(err, &known) && known.Kind != fault.Unknown {
		return status.Error(known.GRPCStatus().Code(), err.Error())
	}
	if st, ok := status.FromError(err); ok && st.Code() != codes.Unknown {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	s.log.Error("call could not be served", "method", method, "err", err)
	return errInternal
}
