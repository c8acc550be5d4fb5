package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/proto/fault"
)

func TestShown(t *testing.T) {
	t.Parallel()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	cause := errors.New("connect to user=ingot at /var/lib")
	for _, tc := range []struct {
		err  error
		code codes.Code
		word string
	}{
		{fault.New(fault.Invalid, "mend it"), codes.InvalidArgument, "mend it"},
		{fmt.Errorf("outer: %w", fault.New(fault.NotFound, "no such")), codes.NotFound, "outer: no such"},
		{fault.Wrap(fault.Unavailable, cause, "check a token"), codes.Unavailable, "try again"},
		{cause, codes.Internal, "log"},
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled, "canceled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "deadline"},
	} {
		got := status.Convert(s.shown("m", tc.err))
		if got.Code() != tc.code || !strings.Contains(got.Message(), tc.word) || strings.Contains(got.Message(), "user=") {
			t.Errorf("%v is shown as %s %q", tc.err, got.Code(), got.Message())
		}
	}
	if s.shown("m", nil) != nil {
		t.Error("no error is shown as one")
	}
}

func TestPanicEndsTheCallOnly(t *testing.T) {
	t.Parallel()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	_, err := s.guardUnary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/m"}, func(context.Context, any) (any, error) { panic("secret") })
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("unary: %v", err)
	}
	err = s.guardStream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/m"}, func(any, grpc.ServerStream) error { panic("secret") })
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("stream: %v", err)
	}
}
