package api

import (
	"context"
	"regexp"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

var poolName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkPool(name string) error {
	if !poolName.MatchString(name) || strings.HasSuffix(name, "\n") {
		return fault.New(fault.Invalid, "pool %.80q: want at most 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit", name)
	}
	return nil
}

func showPool(p store.Pool) *operator.Pool {
	return &operator.Pool{Name: p.Name, RequireSignedImages: p.RequireSignedImages, Machines: p.Machines, CreatedAt: at(p.CreatedAt)}
}

func (s *Server) poolShown(ctx context.Context, name string) (*operator.Pool, error) {
	p, err := s.c.Store.PoolGet(ctx, name)
	if err != nil {
		return nil, err
	}
	return showPool(p), nil
}

// PoolList lists all pools; there are at most a thousand.
func (s *Server) PoolList(ctx context.Context, _ *operator.PoolListRequest) (*operator.PoolListResponse, error) {
	pools, err := s.c.Store.PoolList(ctx)
	if err != nil {
		return nil, err
	}
	answer := &operator.PoolListResponse{}
	for _, p := range pools {
		answer.Pools = append(answer.Pools, showPool(p))
	}
	return answer, nil
}

// PoolAdd makes a pool.
func (s *Server) PoolAdd(ctx context.Context, r *operator.PoolAddRequest) (*operator.Pool, error) {
	if err := checkPool(r.GetName()); err != nil {
		return nil, err
	}
	p := store.Pool{Name: r.GetName(), RequireSignedImages: r.GetRequireSignedImages()}
	if err := s.c.Store.PoolAdd(ctx, p, auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return s.poolShown(ctx, p.Name)
}

// PoolSet changes a pool's policy. It holds from the next order on.
func (s *Server) PoolSet(ctx context.Context, r *operator.PoolSetRequest) (*operator.Pool, error) {
	if err := checkPool(r.GetName()); err != nil {
		return nil, err
	}
	if r.RequireSignedImages == nil {
		return nil, fault.New(fault.Invalid, "nothing to change: say whether pool %s requires signed images", r.GetName())
	}
	if err := s.c.Store.PoolSet(ctx, r.GetName(), r.RequireSignedImages, auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return s.poolShown(ctx, r.GetName())
}

// PoolDelete forgets a pool that has no machine.
func (s *Server) PoolDelete(ctx context.Context, r *operator.PoolDeleteRequest) (*emptypb.Empty, error) {
	if err := checkPool(r.GetName()); err != nil {
		return nil, err
	}
	if err := s.c.Store.PoolDelete(ctx, r.GetName(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
