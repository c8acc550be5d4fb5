package daemon

import (
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/controller/agentapi"
	"github.com/ingot-metal/ingot/controller/relay"
)

// wireAgents puts the agents' service on its server and gives what runs behind
// it. This is the one place that knows package agentapi.
func wireAgents(h *house, srv *grpc.Server, board *relay.Board) part {
	api := agentapi.New(agentapi.Config{
		Store: h.store, Authority: h.authority, ControllerID: h.id, Board: h.board, Log: h.log,
		Relay: agentapi.Relay{
			Board: board, RingBytes: h.c.relay.ring, ServeBytesPerSecond: h.c.relay.rate, TLS: h.c.Relay == relayTLS,
		},
		Jobs: agentapi.Jobs{
			Images: copies{h}, CAPEM: h.authority.PEM(), ReportPort: port(h.c.ReportPort),
		},
	})
	api.Register(srv)
	return part{"agents' wake-ups", api.Run}
}
