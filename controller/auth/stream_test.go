package auth_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/proto/fault"
)

// changing is a store whose answer about any token changes with time.
type changing struct{ answer func() error }

func (c changing) TokenCheck(context.Context, string) (string, error) { return "admin", c.answer() }

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// TestStreamEndsWithItsToken: within a minute, with the reason; a store that is
// away ends nothing.
func TestStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	revoked, away := fault.New(fault.Unauthenticated, "revoked"), fault.New(fault.Unavailable, "away")
	for _, tc := range []struct {
		name  string
		after error // what the store says from ten minutes on
		ended bool
		most  time.Duration
	}{
		{"revoked", revoked, true, 11 * time.Minute},
		{"the store is away", away, false, time.Hour},
		{"in force", nil, false, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			c := auth.NewChokepoint(auth.Table{"/s/Watch": auth.Operator}, changing{func() error {
				if time.Since(begun) < 10*time.Minute {
					return nil
				}
				return tc.after
			}})
			ctx, cancel := context.WithTimeout(metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer x")), time.Hour)
			defer cancel()
			err := c.Stream(nil, stream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/s/Watch"}, func(_ any, s grpc.ServerStream) error {
				<-s.Context().Done()
				return s.Context().Err()
			})
			if took := time.Since(begun); fault.Is(err, fault.Unauthenticated) != tc.ended || took > tc.most || took < 10*time.Minute {
				t.Errorf("%s: ended after %v with %v, want an end by its token: %v, within %v", tc.name, took, err, tc.ended, tc.most)
			}
		})
	}
}
