// Package agentapi is the server side of proto/agent: it lets agents in, holds
// their streams, delivers orders and takes reports. Agents' wire types become
// domain types here and nowhere else.
//
// A stream's life:
//
//	TLS with a client certificate ─► identity checked against the store
//	Hello ─► Welcome (last sequence stored, what a person should do next)
//	loop:  orders of the store, oldest first ─► agent
//	       report n ─► one transaction ─► Ack n
//	       result of an order ─► stored ─► Proceed
//	end:   certificate's end, silence, a newer stream, or the connection's
//
// Nothing is remembered here that matters: another controller can take the next
// stream of the same agent and go on.
package agentapi
