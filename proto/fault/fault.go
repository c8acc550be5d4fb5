// Package fault holds the kinds of error that a caller acts on, and their gRPC
// codes. A kind survives an RPC; everything else is text for a person.
package fault

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind says what a caller can do about an error.
type Kind int

// The closed set of kinds. Unknown is the zero value: a defect or an outside
// failure that nobody foresaw.
const (
	Unknown Kind = iota
	// Invalid: the request is wrong and stays wrong; mend it.
	Invalid
	// NotFound: no such thing, or none that the caller may see.
	NotFound
	// Exists: the thing is there already.
	Exists
	// Precondition: right request, wrong moment; the text says what must come
	// first.
	Precondition
	// Conflict: somebody else changed it meanwhile; read again and repeat.
	Conflict
	// Denied: known caller, not allowed.
	Denied
	// Unauthenticated: unknown caller.
	Unauthenticated
	// Exhausted: a limit was reached; the text names it.
	Exhausted
	// Unavailable: temporary; repeat later.
	Unavailable
	// Stale: an older generation or fencing token; it changes nothing.
	Stale
)

var grpcCodes = map[Kind]codes.Code{
	Unknown: codes.Internal, Invalid: codes.InvalidArgument, NotFound: codes.NotFound,
	Exists: codes.AlreadyExists, Precondition: codes.FailedPrecondition, Conflict: codes.Aborted,
	Denied: codes.PermissionDenied, Unauthenticated: codes.Unauthenticated,
	Exhausted: codes.ResourceExhausted, Unavailable: codes.Unavailable, Stale: codes.OutOfRange,
}

// Error is an error of a kind. Text is shown to people as it is.
type Error struct {
	Kind Kind
	Text string
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// GRPCStatus makes the kind travel over gRPC.
func (e *Error) GRPCStatus() *status.Status { return status.New(grpcCodes[e.Kind], e.Error()) }

// New makes an error of a kind; the text is formatted as by fmt.Sprintf.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Wrap gives err a kind and says what was being done. A nil err stays nil.
func Wrap(kind Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...), Err: err}
}

// KindOf finds the kind of err, whether it was made here or came by gRPC.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable
	}
	if s, ok := status.FromError(err); ok && err != nil {
		for kind, code := range grpcCodes {
			if code == s.Code() {
				return kind
			}
		}
	}
	return Unknown
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
