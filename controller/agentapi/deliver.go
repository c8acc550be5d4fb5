package agentapi

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

// deliver sends what the store has for this boot and takes back what was
// superseded since. A database that is away is not the agent's affair.
func (st *stream) deliver(ctx context.Context) error {
	orders, err := st.server.Store.OrderPendingForAgent(ctx, st.agent.id, st.agent.generation)
	if err != nil {
		return st.passing(err, "look for orders")
	}
	for id, open := range st.sent {
		if open && !holds(orders, id) {
			if err := st.retract(ctx, id); err != nil {
				return err
			}
		}
	}
	for _, o := range orders {
		if _, done := st.sent[o.ID]; done {
			continue
		}
		if err := st.deliverOne(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func holds(orders []machine.Order, id int64) bool {
	for _, o := range orders {
		if o.ID == id {
			return true
		}
	}
	return false
}

// retract sends a cancel for an order that is open no more without a result.
func (st *stream) retract(ctx context.Context, id int64) error {
	o, err := st.server.Store.OrderGet(ctx, id)
	gone := fault.Is(err, fault.NotFound) // with its machine: deleted
	if err != nil && !gone {
		return st.passing(err, "look for an order")
	}
	st.sent[id] = false
	st.relayLeave(id)
	if gone || o.State == machine.OrderSuperseded {
		return st.wire.Send(cancelOf(id))
	}
	return nil
}

func (st *stream) deliverOne(ctx context.Context, o machine.Order) error {
	m, err := st.server.Store.MachineGet(ctx, string(st.agent.id))
	if err != nil {
		return st.passing(err, "read the machine of an order")
	}
	log := st.log.With("order_id", o.ID, "task", o.Step)
	wire, err := st.server.Jobs.order(ctx, m, o, st.agent.host, time.Now())
	if err == nil {
		err = st.server.demand(ctx, m, wire.GetDeploy())
	}
	if err != nil {
		if fault.Is(err, fault.Unavailable) {
			return st.passing(err, "make an order")
		}
		return st.refuse(ctx, o, err)
	}
	st.relayEnter(m, wire)
	if err := st.server.Store.OrderDelivered(ctx, o.ID, st.agent.generation); err != nil {
		st.relayLeave(o.ID)
		if fault.Is(err, fault.Stale) {
			log.Info("order not delivered", "err", err)
			return nil
		}
		return st.passing(err, "record a delivery")
	}
	st.sent[o.ID] = true
	log.Info("order delivered", "attempt", o.Attempt)
	return st.wire.Send(&agent.ToAgent{Message: &agent.ToAgent_Order{Order: wire}})
}

// refuse ends an order that cannot be made, with a named cause.
func (st *stream) refuse(ctx context.Context, o machine.Order, cause error) error {
	st.log.Warn("order cannot be made", "order_id", o.ID, "err", cause)
	o.State, o.Reason, o.Detail = machine.OrderFailed, machine.ReasonUnknown, cause.Error()
	switch fault.KindOf(cause) {
	case fault.NotFound:
		o.Reason = machine.ReasonImageGone
	case fault.Precondition:
		o.Reason = machine.ReasonDiskGone
	}
	if named := new(refusal); errors.As(cause, &named) {
		o.Reason = named.reason
	}
	st.sent[o.ID] = false
	if err := st.server.Store.OrderFinish(ctx, o); err != nil && !fault.Is(err, fault.Stale) {
		delete(st.sent, o.ID)
		return st.passing(err, "end an order")
	}
	return nil
}

// passing decides about an error of the store: one that passes is logged and
// tried again at the next look, any other ends the stream.
func (st *stream) passing(err error, what string) error {
	if fault.Is(err, fault.Unavailable) {
		st.log.Warn(what, "err", err)
		st.again = true
		return nil
	}
	return err
}
