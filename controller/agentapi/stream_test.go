package agentapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ingot-metal/ingot/controller/agentapi"
	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/relay"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/agent"
)

var mac = net.HardwareAddr{0x00, 0x16, 0x3e, 0, 0, 1}

// rig is a controller's agent side over TLS and PostgreSQL, with one machine that
// an operator added and whose agent has enrolled.
type rig struct {
	t       *testing.T
	store   *store.Store
	address string
	config  *tls.Config
	id      machine.ID
	boot    uint64
	relays  *relay.Board
}

// newRig makes one whose images are at these URLs, or at one by HTTP.
func newRig(t *testing.T, urls ...string) *rig {
	t.Helper()
	if urls == nil {
		urls = []string{"http://127.0.0.1/frames"}
	}
	board := relay.NewBoard(relay.Rules{})
	s := storetest.New(t)
	must(t, s.ControllerStart(t.Context(), "c1", "here"))
	der, key, err := auth.NewAuthority(time.Now())
	must(t, err)
	authority, err := auth.OpenAuthority(der, key)
	must(t, err)
	leaf, err := authority.ServerCertificate(time.Now(), []string{"127.0.0.1"})
	must(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert})))
	api := agentapi.New(agentapi.Config{Store: s, Authority: authority, ControllerID: "c1", Board: event.NewBoard(),
		Jobs: agentapi.Jobs{Images: shelf{urls}}, Relay: agentapi.Relay{Board: board, RingBytes: 1 << 40}, Log: slog.New(slog.DiscardHandler)})
	api.Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 3)
	go func() { _ = board.Run(ctx); done <- struct{}{} }()
	go func() { _ = server.Serve(listener); done <- struct{}{} }()
	go func() { _ = api.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); server.Stop(); <-done; <-done; <-done })
	pool := x509.NewCertPool()
	pool.AddCert(authority.Certificate)
	r := &rig{t: t, store: s, address: listener.Addr().String(), config: &tls.Config{RootCAs: pool}, relays: board}
	m, err := s.MachineAdd(t.Context(), store.NewMachine{Hostname: "m1", MACs: []net.HardwareAddr{mac}}, "alice")
	must(t, err)
	r.id = m.ID
	r.enrol()
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) client() agent.AgentServiceClient {
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(credentials.NewTLS(r.config)))
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return agent.NewAgentServiceClient(conn)
}

func (r *rig) enrol() {
	r.t.Helper()
	session, err := r.store.SessionOpen(r.t.Context(), boot.SessionRequest{MAC: mac, Arch: "x86_64", FirmwareMode: boot.FirmwareUEFI})
	must(r.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(r.t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(r.t, err)
	answer, err := r.client().Enrol(r.t.Context(), &agent.EnrolRequest{Nonce: session.Nonce, CertificateRequest: csr, BootMac: mac.String(), Protocol: 2, BootId: "b"})
	must(r.t, err)
	r.boot = answer.BootGeneration
	r.config = r.config.Clone()
	r.config.Certificates = []tls.Certificate{{Certificate: [][]byte{answer.Certificate}, PrivateKey: key}}
}

// talk is one stream, seen from the agent.
type talk struct {
	*rig
	wire grpc.BidiStreamingClient[agent.FromAgent, agent.ToAgent]
	hang context.CancelFunc
}

func (r *rig) connect(running int64) *talk {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	r.t.Cleanup(cancel)
	wire, err := r.client().Connect(ctx)
	must(r.t, err)
	s := &talk{r, wire, cancel}
	s.send(&agent.FromAgent{Message: &agent.FromAgent_Hello{Hello: &agent.Hello{RunningOrderId: running}}})
	return s
}

func (s *talk) send(m *agent.FromAgent) {
	s.t.Helper()
	m.BootGeneration = s.boot
	must(s.t, s.wire.Send(m))
}

// next reads on to the first message that is.
func (s *talk) next(what string, is func(*agent.ToAgent) bool) *agent.ToAgent {
	s.t.Helper()
	for {
		m, err := s.wire.Recv()
		if err != nil {
			s.t.Fatalf("while waiting for %s: %v", what, err)
		}
		if is(m) {
			return m
		}
	}
}

// turn saves a decision on the machine, as the engine does.
func (r *rig) turn(decide func(machine.Snapshot) machine.Decision) {
	r.t.Helper()
	for {
		list, err := r.store.MachineClaim(r.t.Context(), "c1", time.Minute, 1)
		must(r.t, err)
		if len(list) == 1 {
			must(r.t, r.store.DecisionSave(r.t.Context(), list[0], decide(list[0])))
			return
		}
		must(r.t, r.store.MachineNudge(r.t.Context(), r.id))
	}
}

// reboot asks for something and gives an order to restart, which something
// follows.
func (r *rig) reboot() {
	r.t.Helper()
	_, err := r.store.OperationCreate(r.t.Context(), r.id, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, "", "alice")
	must(r.t, err)
	r.turn(func(machine.Snapshot) machine.Decision {
		return machine.Decision{Go: &machine.Go{To: machine.Commissioning}}
	})
	r.turn(func(s machine.Snapshot) machine.Decision {
		return machine.Decision{Wait: &machine.Wait{Until: s.Now.Add(time.Hour)}, Orders: []machine.Order{{
			Step: "reboot", Target: machine.TargetAgent, Cause: "test", Job: machine.Job{Reboot: &machine.RebootJob{}}}}}
	})
}

func state(want string) func(*agent.ToAgent) bool {
	return func(m *agent.ToAgent) bool { return m.GetWelcome().GetMachineState() == want }
}

func order(m *agent.ToAgent) bool { return m.GetOrder() != nil }

// TestConsoleFollowsTheState: the agent is greeted anew when what its console
// shows is no longer true.
func TestConsoleFollowsTheState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	s.next("the welcome", state("enrolled"))
	r.reboot()
	w := s.next("commissioning", state("commissioning")).GetWelcome()
	if got, want := w.GetNextStep(), "wait: the agent takes the inventory and tests the hardware."; got != want {
		t.Errorf("next step: got %q, want %q", got, want)
	}
	r.turn(func(machine.Snapshot) machine.Decision {
		return machine.Decision{End: &machine.End{To: machine.Commissioning, Outcome: machine.OutcomeFailed, Reason: machine.ReasonNoDisks}}
	})
	w = s.next("the failure", state("commissioning (failed)")).GetWelcome()
	if got, want := w.GetNextStep(), "Fit a disk, then: ingot machine commission "+string(r.id); got != want {
		t.Errorf("next step: got %q, want %q", got, want)
	}
}

// TestLostProceedIsRepeated: the stream broke between the result and the word to
// go on; without it the agent would stay for ever.
func TestLostProceedIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	r.reboot()
	id := s.next("the order", order).GetOrder().GetId()
	s.send(&agent.FromAgent{Message: &agent.FromAgent_Report{Report: &agent.Report{Sequence: 1, OrderId: id,
		Report: &agent.Report_Result{Result: &agent.JobResult{Outcome: agent.Outcome_OUTCOME_SUCCEEDED}}}}})
	s.next("the acknowledgement", func(m *agent.ToAgent) bool { return m.GetAck().GetSequence() == 1 })
	s.hang()
	s = r.connect(id)
	if m := s.next("the word to proceed", func(m *agent.ToAgent) bool { return m.GetWelcome() == nil }); m.GetProceed().GetOrderId() != id {
		t.Errorf("got %v, want to proceed with %d", m, id)
	}
}

// TestDeletedMachineStops what its agent is at.
func TestDeletedMachineStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	r.reboot()
	id := s.next("the order", order).GetOrder().GetId()
	must(t, r.store.MachineDelete(t.Context(), r.id, true, "alice"))
	s.next("the cancel", func(m *agent.ToAgent) bool { return m.GetCancel().GetOrderId() == id })
}

// TestUnknownRunningOrderIsCancelled: a restored database may not know it.
func TestUnknownRunningOrderIsCancelled(t *testing.T) {
	t.Parallel()
	s := newRig(t).connect(4711)
	s.next("the cancel", func(m *agent.ToAgent) bool { return m.GetCancel().GetOrderId() == 4711 })
}

// TestStreamThatCountsAsEndedEnds: otherwise the engine would cut the power of a
// machine whose agent is connected.
func TestStreamThatCountsAsEndedEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	s.next("the welcome", state("enrolled"))
	must(t, r.store.ControllerStart(t.Context(), "c1", "here")) // forgets the streams of the run before
	for {
		if _, err := s.wire.Recv(); err != nil {
			break
		}
	}
	r.connect(0).next("a new welcome", state("enrolled"))
}

// TestFloodLosesNoResult: an agent that says more than is kept has all of it
// acknowledged, a bounded part kept, and the result of its order among that.
func TestFloodLosesNoResult(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.connect(0)
	r.reboot()
	id := s.next("the order", order).GetOrder().GetId()
	storetest.Exec(t, r.store, "UPDATE machine SET report_spent = 4990, report_spent_at = ingot_now()")
	before := r.events()
	const flood = 200
	for n := range uint64(flood) {
		s.send(&agent.FromAgent{Message: &agent.FromAgent_Report{Report: &agent.Report{Sequence: n + 1,
			Report: &agent.Report_Phase{Phase: &agent.PhaseEvent{Phase: "flood"}}}}})
	}
	s.send(&agent.FromAgent{Message: &agent.FromAgent_Report{Report: &agent.Report{Sequence: flood + 1, OrderId: id,
		Report: &agent.Report_Result{Result: &agent.JobResult{Outcome: agent.Outcome_OUTCOME_SUCCEEDED}}}}})
	s.next("the last acknowledgement", func(m *agent.ToAgent) bool { return m.GetAck().GetSequence() == flood+1 })
	s.next("the word to proceed", func(m *agent.ToAgent) bool { return m.GetProceed().GetOrderId() == id })
	if got := r.events() - before; got > 20 {
		t.Errorf("got %d events of %d reports, want at most 20", got, flood)
	}
	if o, err := r.store.OrderGet(t.Context(), id); err != nil || o.State != machine.OrderSucceeded {
		t.Errorf("got %s, %v, want the result stored", o.State, err)
	}
}

func (r *rig) events() (n int) {
	storetest.Row(r.t, r.store, "SELECT count(*) FROM event", nil, &n)
	return n
}
