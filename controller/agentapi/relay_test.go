package agentapi_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/relay"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/agent"
)

// shelf has one image, whatever it is asked for.
type shelf struct{ urls []string }

func (shelf) ManifestRead(context.Context, string) ([]byte, error) { return []byte("{}"), nil }

func (s shelf) FrameURLs(context.Context, string, image.Reader, string, time.Time) ([]string, error) {
	return s.urls, nil
}

// deploy gives the rig's machine an order to deploy, and the agent takes it.
func (s *talk) deploy() *agent.Order {
	s.t.Helper()
	storetest.Exec(s.t, s.store, "UPDATE machine SET memory_bytes = 1 << 30")
	storetest.Exec(s.t, s.store, "INSERT INTO disk (machine_id, serial, size_bytes) SELECT id, 'd1', 1 << 30 FROM machine")
	wish := machine.DeployWish{ImageDigest: digest, Disk: "d1", Proof: machine.ProofNone, InstanceID: "i", Hostname: "m1"}
	_, err := s.store.OperationCreate(s.t.Context(), s.id, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, "", "alice")
	must(s.t, err)
	s.turn(func(snap machine.Snapshot) machine.Decision {
		return machine.Decision{Go: &machine.Go{To: machine.Commissioning}}
	})
	s.turn(func(snap machine.Snapshot) machine.Decision {
		return machine.Decision{Wait: &machine.Wait{Until: snap.Now.Add(time.Hour)}, Orders: []machine.Order{{
			Step: "write", Target: machine.TargetAgent, Cause: "test", Job: machine.Job{Deploy: &wish}}}}
	})
	return s.next("the order", order).GetOrder()
}

const digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123"

func (s *talk) relay(id int64, state *agent.RelayState) {
	s.t.Helper()
	state.OrderId = id
	s.send(&agent.FromAgent{Message: &agent.FromAgent_Relay{Relay: state}})
}

func upstream(m *agent.ToAgent) bool { return m.GetRelay() != nil }

// TestRelay: an agent between two others in the packed file is told the one, and
// the other is told of it, by no address but the one that it is seen by.
func TestRelay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	job := s.deploy()
	given := job.GetDeploy().GetRelay()
	if got, want := given.GetRingBytes(), uint64(1<<30/16); got != want || len(given.GetKey()) < 16 || given.GetTls() {
		t.Fatalf("got %v, want a ring of %d bytes, a key and no TLS", given, want)
	}
	told := make(chan relay.Upstream, 1)
	for id, deliver := range map[machine.ID]func(relay.Upstream){
		"front": func(relay.Upstream) {}, "back": func(u relay.Upstream) { told <- u },
	} {
		if _, ok := r.relays.Enter(relay.Seat{Machine: id, Order: 1, Image: digest, Deliver: deliver}); !ok {
			t.Fatal("no seat")
		}
	}
	ring := uint64(1 << 20)
	r.relays.Report("front", 1, relay.State{URLs: []string{"http://10.0.0.1:4000"}, Position: 100, RingBytes: ring})
	r.relays.Report("back", 1, relay.State{RingBytes: ring})
	s.relay(job.GetId(), &agent.RelayState{Position: 50, RingBytes: ring, Urls: []string{
		"http://127.0.0.1:4001/", "http://10.0.0.9:4001", "ftp://127.0.0.1:4001", "http://127.0.0.1:80", "http://127.0.0.1:4001/admin"}})
	if got := s.next("the upstream", upstream).GetRelay(); got.GetMachineId() != "front" || got.GetOrderId() != job.GetId() || !slices.Equal(got.GetUrls(), []string{"http://10.0.0.1:4000"}) {
		t.Errorf("got %v, want the one in front", got)
	}
	got := <-told
	if want := []string{"http://127.0.0.1:4001"}; got.Peer != s.id || !slices.Equal(got.URLs, want) {
		t.Errorf("the one behind was told %v, want %s at %v", got, s.id, want)
	}
}

// TestRelayAfterReconnect: the seat is there again with the next stream.
func TestRelayAfterReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	id := s.deploy().GetId()
	s.hang()
	s = r.connect(id)
	r.relays.Enter(relay.Seat{Machine: "front", Order: 1, Image: digest, Deliver: func(relay.Upstream) {}})
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	front := relay.State{URLs: []string{"http://10.0.0.1:4000"}, Position: 100, RingBytes: 1 << 20}
	r.relays.Report("front", 1, front)
	r.relays.Enter(relay.Seat{Machine: "third", Order: 2, Image: digest, Deliver: func(relay.Upstream) {}})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			r.relays.Report("front", 1, front)
			r.relays.Report("third", 2, relay.State{})
			_ = s.wire.Send(&agent.FromAgent{BootGeneration: s.boot, Message: &agent.FromAgent_Relay{Relay: &agent.RelayState{OrderId: id, Position: 50}}})
			<-tick.C
		}
	}()
	if got := s.next("the upstream", upstream).GetRelay().GetMachineId(); got != "front" {
		t.Errorf("got %q, want the one in front", got)
	}
}

// TestRelayOfANewerStream: what a machine is to be told comes by its newest stream,
// also while an older one has not been found dead; and when that is at last, it
// takes nothing away.
func TestRelayOfANewerStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.connect(0)
	id := old.deploy().GetId()
	s := r.connect(id)
	s.next("the welcome", func(m *agent.ToAgent) bool { return m.GetWelcome() != nil })
	for { // the older one was told to end
		if _, err := old.wire.Recv(); err != nil {
			break
		}
	}
	told := make(chan relay.Upstream, 9)
	r.relays.Enter(relay.Seat{Machine: r.id, Order: id, Image: digest, Deliver: func(u relay.Upstream) { told <- u }})
	s.relay(id, &agent.RelayState{Position: 50})
	s.relay(id, &agent.RelayState{Position: 50})
	if got := s.next("the upstream", upstream).GetRelay(); got.GetOrderId() != id {
		t.Errorf("got %v, want an upstream for order %d", got, id)
	}
	if len(told) != 0 {
		t.Errorf("the older stream was told %v", <-told)
	}
}

// TestPrivateImagesRelayByTLS: the links say which ones are private.
func TestPrivateImagesRelayByTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, "https://127.0.0.1/frames")
	if !r.connect(0).deploy().GetDeploy().GetRelay().GetTls() {
		t.Error("a private image is relayed without TLS")
	}
}
