package api

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// ourNames stand in the audit trail for parts of the controller.
var ourNames = []string{"ingotd", "lifecycle"}

func showToken(t store.Token) *operator.Token {
	return &operator.Token{
		Name: t.Name, Prefix: t.Prefix, CreatedBy: t.CreatedBy, CreatedAt: at(t.CreatedAt), ExpiresAt: at(t.ExpiresAt),
		LastUsedAt: at(t.LastUsedAt), EndedAt: at(t.EndedAt),
	}
}

// TokenList lists the tokens in force, or all that ever were.
func (s *Server) TokenList(ctx context.Context, r *operator.TokenListRequest) (*operator.TokenListResponse, error) {
	list, err := s.c.Store.TokenList(ctx, r.GetAll())
	if err != nil {
		return nil, err
	}
	answer := &operator.TokenListResponse{}
	for _, t := range list {
		answer.Tokens = append(answer.Tokens, showToken(t))
	}
	return answer, nil
}

// TokenCreate makes a token and gives it away, this once.
func (s *Server) TokenCreate(ctx context.Context, r *operator.TokenCreateRequest) (*operator.TokenCreateResponse, error) {
	name := r.GetName()
	if !tokenName.MatchString(name) || strings.HasSuffix(name, "\n") {
		return nil, fault.New(fault.Invalid, "token name %.120q: want at most 64 letters, digits and . _ @ + -, such as the name of who bears it", name)
	}
	if slices.Contains(ourNames, strings.ToLower(name)) {
		return nil, fault.New(fault.Invalid, "%s is what the controller calls itself in the audit trail; choose another name", name)
	}
	var expires time.Time
	if r.GetExpiresAt() != nil {
		if err := r.GetExpiresAt().CheckValid(); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "expires_at")
		}
		expires = r.GetExpiresAt().AsTime()
	}
	secret, err := s.c.Store.TokenCreate(ctx, name, expires, auth.Actor(ctx))
	if err != nil {
		return nil, err
	}
	answer := &operator.TokenCreateResponse{Secret: secret.Reveal()}
	list, err := s.c.Store.TokenList(ctx, false)
	for _, t := range list {
		if t.Name == name {
			answer.Token = showToken(t)
		}
	}
	return answer, err
}

// TokenRevoke ends a token. The caller's own is not ended by accident: the last
// one in force is always somebody's own.
func (s *Server) TokenRevoke(ctx context.Context, r *operator.TokenRevokeRequest) (*emptypb.Empty, error) {
	if r.GetName() == "" {
		return nil, fault.New(fault.Invalid, "no token named: ingot token list shows them")
	}
	if err := checkWord("token name", r.GetName()); err != nil {
		return nil, err
	}
	if r.GetName() == auth.Actor(ctx) && !r.GetForce() {
		return nil, fault.New(fault.Precondition, "%s is the token that you are using: without it you are locked out. Make another first (ingot token create NAME), or say that you mean it: --force", r.GetName())
	}
	if err := s.c.Store.TokenRevoke(ctx, r.GetName(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
