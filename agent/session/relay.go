package session

import (
	"crypto/x509"
	"sync"

	"github.com/ingot-metal/ingot/proto/agent"
)

// relaySlot carries a relay's words both ways. Neither is kept: of the states
// only the newest is sent, and of the upstreams only the last one is remembered,
// for a deploy that is about to begin.
type relaySlot struct {
	ready chan struct{} // holds a token when there is a state to send

	mu     sync.Mutex // guards the fields below
	newest *agent.RelayState
	last   *agent.RelayUpstream
	order  int64                      // that listens; 0: none
	tell   func(*agent.RelayUpstream) // to whom
}

// put replaces the state that is waiting to be sent. The failure of a peer that
// this one told of is not lost by that.
func (s *relaySlot) put(m *agent.RelayState) {
	s.mu.Lock()
	if old := s.newest; old != nil && old.OrderId == m.OrderId && m.FailedUpstream == "" {
		m.FailedUpstream, m.Failure = old.FailedUpstream, old.Failure
	}
	s.newest = m
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *relaySlot) take() *agent.RelayState {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.newest
	s.newest = nil
	return m
}

// receive passes an upstream on to the deploy that it is for.
func (s *relaySlot) receive(m *agent.RelayUpstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = m
	if s.tell != nil && s.order == m.OrderId {
		s.tell(m)
	}
}

// SendRelay sends the state of a relay soon, unless there is no stream: then
// only the newest state is kept. It never blocks. m belongs to the session now.
func (s *Session) SendRelay(m *agent.RelayState) { s.relay.put(m) }

// ReceiveRelay has tell called with each upstream that the controller names for
// the order, the last one that it named before included, until stop. One order
// listens at a time. tell must be quick; after stop returned it is not called.
func (s *Session) ReceiveRelay(orderID int64, tell func(*agent.RelayUpstream)) (stop func()) {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	s.relay.order, s.relay.tell = orderID, tell
	if last := s.relay.last; last != nil && last.OrderId == orderID {
		tell(last)
	}
	return func() {
		s.relay.mu.Lock()
		defer s.relay.mu.Unlock()
		if s.relay.order == orderID {
			s.relay.order, s.relay.tell = 0, nil
		}
	}
}

// MachineID is who this machine was enrolled as; empty before that.
func (s *Session) MachineID() string { return s.identity.current().MachineID }

// Authority holds the CA that signs the certificates of controllers and agents,
// as a controller showed it; nil before the first connection.
func (s *Session) Authority() *x509.CertPool {
	ca := s.authority.Load()
	if ca == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool
}
