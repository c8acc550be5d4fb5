//go:build !agentapi

package daemon

import (
	"context"

	"google.golang.org/grpc"
)

// wireAgents: until package agentapi compiles, no agent is served.
func wireAgents(h *house, _ *grpc.Server) part {
	h.log.Error("this ingotd serves no agents")
	return part{"agents' wake-ups", func(ctx context.Context) error { <-ctx.Done(); return nil }}
}
