package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

const (
	progressEvery = 250 * time.Millisecond
	defaultAlive  = 5 * time.Second
	// settled is how long a stream must have lived for the next attempt to be
	// an early one again.
	settled = 10 * time.Second
	// farewell bounds the wait for the last log lines before the machine leaves
	// the agent.
	farewell = 3 * time.Second
)

// proceeding ends a stream on purpose.
type proceeding struct{ after job.After }

func (p *proceeding) Error() string { return "told to go on with " + string(p.after) }

// converse keeps a stream open until it is told to proceed or ctx ends.
func (s *Session) converse(ctx context.Context) (job.After, error) {
	for wait := s.newBackoff(); ; {
		start := time.Now()
		err := s.stream(ctx)
		var p *proceeding
		if errors.As(err, &p) {
			return p.after, nil
		}
		if ctx.Err() != nil {
			return job.Stay, context.Cause(ctx)
		}
		s.show(func(st *Status) { st.Connected, st.Problem = false, err.Error() })
		s.log.Warn("connection will be made again", "err", err)
		if time.Since(start) > settled {
			wait.reset()
		}
		if err := wait.pause(ctx); err != nil {
			return job.Stay, err
		}
	}
}

type connection = grpc.BidiStreamingClient[agent.FromAgent, agent.ToAgent]

// stream holds one stream from Hello until it breaks.
func (s *Session) stream(ctx context.Context) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	greeting := time.AfterFunc(s.cfg.CallTimeout, func() {
		cancel(fmt.Errorf("%s did not greet within %v", s.cfg.Controller, s.cfg.CallTimeout))
	})
	defer greeting.Stop()
	c, err := agent.NewAgentServiceClient(conn).Connect(ctx)
	if err != nil {
		return orCause(ctx, err)
	}
	welcome, err := s.greet(c)
	if err != nil || !greeting.Stop() {
		return orCause(ctx, err)
	}
	received := make(chan error, 1)
	go func() {
		err := s.receive(c, cancel)
		received <- err
		cancel(err)
	}()
	err = s.send(ctx, c, welcome)
	if !errors.Is(err, errEnded) { // else Recv is about to tell why
		cancel(err)
	}
	if got := <-received; errors.As(got, new(*proceeding)) || errors.Is(err, errEnded) {
		return got
	}
	return orCause(ctx, err)
}

// orCause prefers the reason why ctx was ended to the error that this made.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (s *Session) greet(c connection) (*agent.Welcome, error) {
	if err := s.write(c, &agent.FromAgent{Message: &agent.FromAgent_Hello{Hello: &agent.Hello{
		AgentVersion: s.cfg.Version, LastSequence: s.outbox.lastSequence(),
		RunningOrderId: s.orders.openID(), BootId: s.cfg.BootID,
	}}}); err != nil && !errors.Is(err, errEnded) {
		return nil, err
	}
	message, err := c.Recv()
	if err != nil {
		return nil, err
	}
	welcome := message.GetWelcome()
	if welcome == nil {
		return nil, fmt.Errorf("%s did not begin with a Welcome", s.cfg.Controller)
	}
	s.welcomed(welcome)
	return welcome, nil
}

func (s *Session) welcomed(w *agent.Welcome) {
	if w.ControllerTime != nil {
		s.mu.Lock()
		s.offset = w.ControllerTime.AsTime().Sub(s.cfg.Now())
		s.mu.Unlock()
	}
	s.outbox.acknowledge(w.AcknowledgedSequence)
	s.show(func(st *Status) {
		st.Connected, st.Problem, st.State, st.NextStep = true, "", w.MachineState, w.NextStep
		if w.MachineName != "" {
			st.MachineName = w.MachineName
		}
	})
}

// write puts the boot generation on a message and sends it. Only one goroutine
// writes at a time.
func (s *Session) write(c connection, m *agent.FromAgent) error {
	m.BootGeneration = s.identity.current().BootGeneration
	if err := c.Send(m); err != nil {
		if !errors.Is(err, io.EOF) {
			return err
		}
		// The stream has ended; what ended it is what the receiver gets.
		return errEnded
	}
	return nil
}

var errEnded = errors.New("the controller ended the stream")

// send sends reports, signs of life, progress and states of a relay until the stream ends.
func (s *Session) send(ctx context.Context, c connection, w *agent.Welcome) error {
	every := w.AliveInterval.AsDuration()
	if every < 100*time.Millisecond || every > 5*time.Minute {
		every = defaultAlive
	}
	alive := time.NewTicker(every)
	defer alive.Stop()
	// After a progress the channel is not listened to until this has fired.
	rest := time.NewTimer(0)
	defer rest.Stop()
	ready := s.progress.ready
	for sent := w.AcknowledgedSequence; ; {
		for r := s.outbox.next(sent); r != nil; r = s.outbox.next(sent) {
			if err := s.write(c, &agent.FromAgent{Message: &agent.FromAgent_Report{Report: r}}); err != nil {
				return err
			}
			sent = r.Sequence
		}
		var message *agent.FromAgent
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.outbox.changed:
			continue
		case <-alive.C:
			message = &agent.FromAgent{Message: &agent.FromAgent_Alive{Alive: &agent.Alive{Uptime: durationpb.New(uptime())}}}
		case <-rest.C:
			ready = s.progress.ready
			continue
		case <-ready:
			p := s.progress.take()
			if p == nil {
				continue
			}
			message = &agent.FromAgent{Message: &agent.FromAgent_Progress{Progress: p}}
			ready = nil
			rest.Reset(progressEvery)
		case <-s.relay.ready:
			state := s.relay.take()
			if state == nil {
				continue
			}
			message = &agent.FromAgent{Message: &agent.FromAgent_Relay{Relay: state}}
		}
		if err := s.write(c, message); err != nil {
			return err
		}
	}
}

// receive acts on what the controller sends until the stream ends.
func (s *Session) receive(c connection, cancel context.CancelCauseFunc) error {
	for {
		message, err := c.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errEnded
			}
			return err
		}
		switch m := message.Message.(type) {
		case *agent.ToAgent_Welcome:
			s.welcomed(m.Welcome)
		case *agent.ToAgent_Order:
			s.orders.receive(m.Order)
		case *agent.ToAgent_Ack:
			s.outbox.acknowledge(m.Ack.Sequence)
		case *agent.ToAgent_Cancel:
			s.orders.cancelOrder(m.Cancel)
		case *agent.ToAgent_Relay:
			s.relay.receive(m.Relay)
		case *agent.ToAgent_Proceed:
			if after := s.orders.proceed(m.Proceed.OrderId); after != job.Stay {
				return s.depart(c, cancel, m.Proceed.OrderId, after)
			}
		default:
			s.log.Warn("message of an unknown kind passed over")
		}
	}
}

// depart gives the last reports a moment to be acknowledged.
func (s *Session) depart(c connection, cancel context.CancelCauseFunc, orderID int64, after job.After) error {
	s.log.Info("result is stored, going on", "order_id", orderID, "after", string(after))
	s.packLog()
	goal := &proceeding{after}
	timeout := time.AfterFunc(farewell, func() { cancel(goal) })
	defer timeout.Stop()
	for !s.outbox.empty() {
		message, err := c.Recv()
		if err != nil {
			break
		}
		if ack := message.GetAck(); ack != nil {
			s.outbox.acknowledge(ack.Sequence)
		}
	}
	return goal
}

// uptime of the machine, sleep included.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
