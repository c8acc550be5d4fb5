package auth

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Access says what a method asks of its caller.
type Access int

// Levels of access. The zero value denies, so that a method which nobody
// reviewed cannot be called.
const (
	Deny Access = iota
	// Public needs no token.
	Public
	// Operator needs a token that the store knows.
	Operator
)

// Table is the reviewed list of methods, by full gRPC name.
type Table map[string]Access

// Tokens is what the chokepoint needs of the store.
type Tokens interface {
	// TokenCheck gives the name of a token's bearer; fault.Unauthenticated for
	// one that is unknown, expired or revoked.
	TokenCheck(ctx context.Context, token string) (actor string, err error)
}

// lookEvery is how often the token of a stream is looked at again.
const lookEvery = 30 * time.Second

// Chokepoint is the one place where operators' requests are let in.
type Chokepoint struct {
	table  Table
	tokens Tokens
}

// NewChokepoint makes it from the reviewed table.
func NewChokepoint(table Table, tokens Tokens) *Chokepoint {
	return &Chokepoint{table: table, tokens: tokens}
}

type actorKey struct{}

// Actor is who asked, for the audit trail; "" outside a checked request.
func Actor(ctx context.Context) string {
	actor, _ := ctx.Value(actorKey{}).(string)
	return actor
}

// Check lets a call of a method in, or says why not.
func (c *Chokepoint) Check(ctx context.Context, method string) (context.Context, error) {
	switch c.table[method] {
	case Public:
		return ctx, nil
	case Operator:
		token, err := bearer(ctx)
		if err != nil {
			return nil, err
		}
		if a, ok := ctx.Value(arrivedKey{}).(arrived); ok && a.token == token {
			return context.WithValue(ctx, actorKey{}, a.actor), nil
		}
		actor, err := c.tokens.TokenCheck(ctx, token)
		if err != nil {
			return nil, err
		}
		return context.WithValue(ctx, actorKey{}, actor), nil
	default:
		return nil, fault.New(fault.Denied, "method %s is not open to anybody", method)
	}
}

type arrivedKey struct{}

// arrived is who came in at the door, for Check further inside.
type arrived struct{ token, actor string }

// Arrive checks a caller by the Authorization header of HTTP, before anything of
// the body is read: nobody without a token shall fill our memory. Check then
// need not ask the store again.
func (c *Chokepoint) Arrive(ctx context.Context, authorization string) (context.Context, error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok || token == "" {
		return nil, noToken()
	}
	actor, err := c.tokens.TokenCheck(ctx, token)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, arrivedKey{}, arrived{token, actor}), nil
}

// Arrived carries what Arrive learnt over to another context.
func Arrived(to, from context.Context) context.Context {
	return context.WithValue(to, arrivedKey{}, from.Value(arrivedKey{}))
}

func noToken() error {
	return fault.New(fault.Unauthenticated, "no token: send the header Authorization: Bearer TOKEN (ingotd printed the first one when it started)")
}

func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(v, "Bearer "); ok && token != "" {
			return token, nil
		}
	}
	return "", noToken()
}

// Unary is the chokepoint for single calls.
func (c *Chokepoint) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := c.Check(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream is the chokepoint for streams. A stream may last for days: its context
// ends once its token does, and the stream then with the reason.
func (c *Chokepoint) Stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := c.Check(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	if c.table[info.FullMethod] == Operator {
		looking.Go(func() { c.look(ctx, cancel) })
	}
	err = next(srv, &checkedStream{ServerStream: s, ctx: ctx})
	cancel(nil)
	looking.Wait()
	if ended := context.Cause(ctx); err != nil && fault.Is(ended, fault.Unauthenticated) {
		return ended
	}
	return err
}

// look asks for the token of a stream again and again, and ends ctx when it is
// not in force any more. A store that does not answer ends nothing.
func (c *Chokepoint) look(ctx context.Context, end context.CancelCauseFunc) {
	token, err := bearer(ctx)
	if err != nil {
		end(err)
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := c.tokens.TokenCheck(ctx, token); fault.Is(err, fault.Unauthenticated) {
			end(err)
			return
		}
	}
}

type checkedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *checkedStream) Context() context.Context { return s.ctx }
