package session_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/proto/agent"
)

func TestRelayBothWays(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, err := session.New(l.config())
	if err != nil {
		t.Fatal(err)
	}
	if s.Authority() != nil {
		t.Error("an authority is known before a controller was seen")
	}
	l.run(s)
	stream := l.stream()

	// Named before the deploy listens, for another order, and while it listens.
	name := func(order int64, machine string) {
		stream.send(&agent.ToAgent{Message: &agent.ToAgent_Relay{Relay: &agent.RelayUpstream{OrderId: order, MachineId: machine}}})
	}
	told := make(chan string, 10)
	name(7, "m-2")
	state := &agent.RelayState{OrderId: 7, Position: 5, FailedUpstream: "m-9", Failure: "stalled"}
	s.SendRelay(state)
	l.wait("the state", func() bool {
		got := (<-stream.others).GetRelay()
		return got != nil && cmp.Diff(got, state, protocmp.Transform()) == ""
	})
	// The first may have come already, and is told then all the same.
	stop := s.ReceiveRelay(7, func(u *agent.RelayUpstream) { told <- u.MachineId })
	name(8, "m-3")
	name(7, "m-4")
	for _, want := range []string{"m-2", "m-4"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("got upstream %s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited for %s in vain", want)
		}
	}
	stop()
	if got := s.MachineID(); got != "m-1" {
		t.Errorf("got machine id %q, want m-1", got)
	}
	if _, err := s.Certificate().Leaf.Verify(x509.VerifyOptions{Roots: s.Authority(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("own certificate against the authority: %v", err)
	}
}

func TestRelayStateThatWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, err := session.New(l.config())
	if err != nil {
		t.Fatal(err)
	}
	// Without a stream only the newest is kept, with the failure of an older one.
	s.SendRelay(&agent.RelayState{OrderId: 7, Position: 1, FailedUpstream: "m-9", Failure: "garbage"})
	s.SendRelay(&agent.RelayState{OrderId: 7, Position: 2})
	l.run(s)
	stream := l.stream()
	var got *agent.RelayState
	l.wait("a state", func() bool { got = (<-stream.others).GetRelay(); return got != nil })
	want := &agent.RelayState{OrderId: 7, Position: 2, FailedUpstream: "m-9", Failure: "garbage"}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("got (-), want (+):\n%s", diff)
	}
}
