package agentapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// aliveInterval is how often an agent says that it lives; silentAfter is how
	// long it may say nothing at all.
	aliveInterval = 5 * time.Second
	silentAfter   = 25 * time.Second
	// helloWithin bounds the wait for a stream's first message.
	helloWithin = 20 * time.Second
	// outQueue bounds what waits to be sent; an agent that does not read makes
	// its own stream wait.
	outQueue = 64
)

var (
	errReplaced = fault.New(fault.Stale, "a newer stream of this machine took its place")
	errSilent   = fault.New(fault.Unavailable, "nothing came for %s", silentAfter)
	errTaken    = fault.New(fault.Unavailable, "this stream counts as ended: its controller was taken for dead; connect again")
	errExpired  = fault.New(fault.Unauthenticated, "the certificate has ended; renew it and connect again")
)

// member is whose stream it is.
type member struct {
	id         machine.ID
	generation uint64
	notAfter   time.Time
	host       string     // by which it reached us
	remote     netip.Addr // by which we see it; invalid: not known
}

// stream is one agent's stream. One goroutine receives, one sends.
type stream struct {
	server *Server
	agent  member
	wire   agent.AgentService_ConnectServer
	log    *slog.Logger
	out    chan *agent.ToAgent
	wake   chan struct{}
	cancel context.CancelCauseFunc
	// number is the stream's in the store.
	number uint64
	// sent are the orders delivered on this stream, shown is what its console was
	// told last; both touched by the sender only.
	sent  map[int64]bool
	shown shown
	pace  *pace
	mark  string // of the machine when it was last compared; the hub's
	again bool   // the database was away: look again soon; the sender's
	// upstream is the latest word of the relay to be sent; seated the order for
	// which it comes here; returned, touched by the receiver only, the orders that
	// were looked up because their relay is not known here.
	upstream chan *agent.RelayUpstream
	seated   atomic.Int64
	returned map[int64]bool
}

// Connect implements the service.
func (s *Server) Connect(wire agent.AgentService_ConnectServer) error {
	who, err := s.caller(wire.Context(), false)
	if err != nil {
		return err
	}
	host, err := reachedAt(wire.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(wire.Context())
	defer cancel(nil)
	st := &stream{
		server: s, wire: wire, cancel: cancel,
		agent: member{id: machine.ID(who.MachineID), generation: who.BootGeneration, notAfter: who.NotAfter, host: host, remote: remoteOf(wire.Context())},
		log:   s.Log.With("machine_id", who.MachineID, "boot_generation", who.BootGeneration),
		out:   make(chan *agent.ToAgent, outQueue), wake: make(chan struct{}, 1), sent: map[int64]bool{}, pace: newPace(),
		upstream: make(chan *agent.RelayUpstream, 1), returned: map[int64]bool{},
	}
	number, _, err := s.Store.AgentOnline(ctx, st.agent.id, st.agent.generation, s.ControllerID)
	if err != nil {
		return err
	}
	st.number = number
	defer st.offline()
	s.hub.join(st)
	defer func() {
		if s.hub.leave(st) {
			st.relayAway()
		}
	}()
	st.log.Info("agent connected", "ip", host)
	err = st.run(ctx)
	st.log.Info("agent disconnected", "err", err)
	return err
}

// offline records the end of the stream, even when the database has to be
// waited for a little.
func (st *stream) offline() {
	st.server.Board.Drop(st.agent.id)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(st.wire.Context()), 10*time.Second)
	defer cancel()
	if err := st.server.Store.AgentOffline(ctx, st.agent.id, st.agent.generation, st.number); err != nil {
		st.log.Warn("record the end of a stream", "err", err)
	}
}

// end ends the stream with a cause.
func (st *stream) end(cause error) { st.cancel(cause) }

// look makes the sender look for orders.
func (st *stream) look() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *stream) run(ctx context.Context) error {
	received := make(chan error, 1)
	heard := make(chan struct{}, 1)
	// It ends when gRPC ends the stream, which is right after the handler: so
	// nobody can wait for it here.
	go func() { received <- st.guarded(ctx, heard) }()
	err := st.send(ctx, heard, received)
	st.cancel(err)
	return err
}

// send is the stream's sending half; it ends when anything ends.
func (st *stream) send(ctx context.Context, heard <-chan struct{}, received <-chan error) error {
	silence := time.NewTimer(helloWithin)
	defer silence.Stop()
	expiry := time.NewTimer(time.Until(st.agent.notAfter))
	defer expiry.Stop()
	var wake <-chan struct{} // none before the welcome, which comes first
	again := time.NewTimer(storeAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-received:
			return err
		case <-heard:
			silence.Reset(silentAfter)
		case <-silence.C:
			return errSilent
		case <-expiry.C:
			return errExpired
		case m := <-st.out:
			if err := st.wire.Send(m); err != nil {
				return err
			}
			if w := m.GetWelcome(); w != nil {
				wake, st.shown = st.wake, shownBy(w)
			}
		case u := <-st.upstream:
			if err := st.wire.Send(&agent.ToAgent{Message: &agent.ToAgent_Relay{Relay: u}}); err != nil {
				return err
			}
		case <-again.C:
			if st.again {
				st.again = false
				st.look()
			}
		case <-wake:
			if err := errors.Join(st.follow(ctx), st.deliver(ctx)); err != nil {
				return err
			}
			if st.again {
				again.Reset(storeAgain)
			}
		}
	}
}

// guarded keeps a panic over what an agent sent from ending the process; the
// server's own guard sees the handler's goroutine only.
func (st *stream) guarded(ctx context.Context, heard chan<- struct{}) (err error) {
	defer func() {
		if p := recover(); p != nil {
			st.log.Error("panic while reading from an agent", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Unknown, "the controller could not take a message")
		}
	}()
	return st.receive(ctx, heard)
}

// receive is the receiving half.
func (st *stream) receive(ctx context.Context, heard chan<- struct{}) error {
	for first := true; ; first = false {
		m, err := st.wire.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if m.GetBootGeneration() != st.agent.generation {
			return fault.New(fault.Stale, "message of boot %d on the stream of boot %d", m.GetBootGeneration(), st.agent.generation)
		}
		if hello := m.GetHello(); first != (hello != nil) {
			return fault.New(fault.Invalid, "a stream begins with one hello")
		}
		if err := st.take(ctx, m); err != nil {
			return err
		}
	}
}

func (st *stream) take(ctx context.Context, m *agent.FromAgent) error {
	switch x := m.GetMessage().(type) {
	case *agent.FromAgent_Hello:
		return st.welcome(ctx, x.Hello)
	case *agent.FromAgent_Report:
		return st.report(ctx, x.Report)
	case *agent.FromAgent_Relay:
		return st.relayState(ctx, x.Relay)
	case *agent.FromAgent_Progress:
		p := x.Progress
		st.server.Board.Put(st.agent.id, event.Progress{
			OrderID: p.GetOrderId(), Phase: text(p.GetPhase()), DoneBytes: p.GetDoneBytes(), TotalBytes: p.GetTotalBytes(),
			FetchedBytes: p.GetFetchedBytes(), BytesPerSecond: p.GetBytesPerSecond(), At: time.Now(),
		})
	}
	return nil
}

func (st *stream) welcome(ctx context.Context, h *agent.Hello) error {
	at, err := st.server.Store.AgentStanding(ctx, st.agent.id)
	if err != nil {
		return err
	}
	if at.BootGeneration != st.agent.generation {
		return errReplaced
	}
	st.pace.trust(at.Approved)
	if err := st.queue(ctx, welcomeOf(st.agent.id, at)); err != nil {
		return err
	}
	if id := h.GetRunningOrderId(); id != 0 {
		// The answer to its result may have been lost with the last stream.
		if err := st.answer(ctx, id); err != nil {
			return err
		}
	}
	st.look()
	return nil
}

func (st *stream) queue(ctx context.Context, m *agent.ToAgent) error {
	select {
	case st.out <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answer tells the agent what became of an order that it works on: go on when
// its result is stored, stop when it was superseded or is none of this
// machine's, nothing while it is open.
func (st *stream) answer(ctx context.Context, id int64) error {
	o, err := st.server.Store.OrderGet(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && o.MachineID != st.agent.id:
		return st.queue(ctx, cancelOf(id))
	case err != nil:
		return err
	}
	switch o.State {
	case machine.OrderSucceeded, machine.OrderFailed:
		return st.queue(ctx, &agent.ToAgent{Message: &agent.ToAgent_Proceed{Proceed: &agent.Proceed{OrderId: id}}})
	case machine.OrderSuperseded:
		return st.queue(ctx, cancelOf(id))
	}
	return nil
}

func cancelOf(id int64) *agent.ToAgent {
	return &agent.ToAgent{Message: &agent.ToAgent_Cancel{Cancel: &agent.Cancel{OrderId: id, Reason: "the order was taken back"}}}
}
