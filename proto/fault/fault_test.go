package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/proto/fault"
)

func TestKindSurvivesWrappingAndRPC(t *testing.T) {
	t.Parallel()
	for kind := fault.Unknown; kind <= fault.Stale; kind++ {
		err := fmt.Errorf("save lease: %w", fault.Wrap(kind, errors.New("cause"), "insert row %d", 3))
		if got, want := fault.KindOf(err), kind; got != want {
			t.Errorf("kind after wrapping: got %v, want %v", got, want)
		}
		wire := status.FromProto(status.Convert(err).Proto()).Err()
		if got, want := fault.KindOf(wire), kind; got != want {
			t.Errorf("kind after RPC: got %v, want %v", got, want)
		}
	}
}

func TestWrapNilStaysNil(t *testing.T) {
	t.Parallel()
	if err := fault.Wrap(fault.Invalid, nil, "x"); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
