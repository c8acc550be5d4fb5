package session_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/agent"
)

// controller is a server of the protocol with a CA of its own. It stores
// reports as a real one does: once each, in order, and only then acknowledged.
type controller struct {
	agent.UnimplementedAgentServiceServer
	t       *testing.T
	address string
	caKey   *ecdsa.PrivateKey
	ca      *x509.Certificate
	life    time.Duration // of client certificates

	// enrol, if set, runs before an answer to Enrol; its error is the answer.
	enrol func(*agent.EnrolRequest) error
	// taken hears of each stored report; false ends the stream before the
	// acknowledgement.
	taken   func(*agent.Report) bool
	streams chan *serverStream
	renewed chan struct{}

	mu      sync.Mutex // guards the fields below
	key     any        // that claimed the nonce
	enrols  int
	reports []*agent.Report // stored
	hellos  []*agent.Hello
}

// serverStream is one open stream, as the test sees it.
type serverStream struct {
	send   func(*agent.ToAgent)
	end    context.CancelFunc
	ended  <-chan struct{}
	others chan *agent.FromAgent // Alive and Progress
}

func startController(t *testing.T) *controller {
	t.Helper()
	c := &controller{t: t, life: time.Hour, streams: make(chan *serverStream, 100), renewed: make(chan struct{}, 100)}
	c.caKey = newKey(t)
	c.ca = c.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject: pkix.Name{CommonName: "test CA"}}, &c.caKey.PublicKey, time.Hour)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = listener.Addr().String()
	key := newKey(t)
	leaf := c.sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, &key.PublicKey, time.Hour)
	pool := x509.NewCertPool()
	pool.AddCert(c.ca)
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, c.ca.Raw}, PrivateKey: key}},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool,
	})))
	agent.RegisterAgentServiceServer(server, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *controller) sign(template *x509.Certificate, public any, life time.Duration) *x509.Certificate {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Second), time.Now().Add(life)
	parent := c.ca
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, c.caKey)
	if err != nil {
		c.t.Error(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Error(err)
	}
	return cert
}

func (c *controller) fingerprint() string {
	sum := sha256.Sum256(c.ca.Raw)
	return hex.EncodeToString(sum[:])
}

func (c *controller) clientCertificate(request []byte) (*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	return c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "m-1"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, csr.PublicKey, c.life), nil
}

func (c *controller) Enrol(_ context.Context, r *agent.EnrolRequest) (*agent.EnrolResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, err := c.clientCertificate(r.CertificateRequest)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if c.key == nil {
		c.key = cert.PublicKey
	}
	if !c.key.(*ecdsa.PublicKey).Equal(cert.PublicKey) || r.Nonce != "the-nonce-of-this-boot" {
		return nil, status.Error(codes.PermissionDenied, "the nonce is another's")
	}
	c.enrols++
	if c.enrol != nil {
		if err := c.enrol(r); err != nil {
			return nil, err
		}
	}
	return &agent.EnrolResponse{Certificate: cert.Raw, MachineId: "m-1", MachineName: "k3f9", BootGeneration: 5,
		ControllerTime: timestamppb.Now(), ExpiresAt: timestamppb.New(cert.NotAfter)}, nil
}

func (c *controller) Renew(_ context.Context, r *agent.RenewRequest) (*agent.RenewResponse, error) {
	cert, err := c.clientCertificate(r.CertificateRequest)
	if err != nil {
		return nil, err
	}
	c.renewed <- struct{}{}
	return &agent.RenewResponse{Certificate: cert.Raw, ExpiresAt: timestamppb.New(cert.NotAfter)}, nil
}

func (c *controller) Connect(stream grpc.BidiStreamingServer[agent.FromAgent, agent.ToAgent]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.hellos = append(c.hellos, first.GetHello())
	stored := uint64(len(c.reports))
	c.mu.Unlock()
	var sending sync.Mutex
	send := func(m *agent.ToAgent) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(m)
	}
	send(&agent.ToAgent{Message: &agent.ToAgent_Welcome{Welcome: &agent.Welcome{
		ControllerTime: timestamppb.Now(), AliveInterval: durationpb.New(100 * time.Millisecond),
		AcknowledgedSequence: stored, MachineState: "enrolled", NextStep: "ingot machine approve k3f9",
	}}})
	s := &serverStream{send: send, end: cancel, ended: ctx.Done(), others: make(chan *agent.FromAgent, 1000)}
	c.streams <- s
	failed := make(chan error, 1)
	go func() { failed <- c.receive(stream, s, cancel) }()
	<-ctx.Done()
	return status.Error(codes.Unavailable, "the stream was cut")
}

func (c *controller) receive(stream grpc.BidiStreamingServer[agent.FromAgent, agent.ToAgent], s *serverStream, cut func()) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			cut()
			return err
		}
		if m.BootGeneration != 5 {
			c.t.Errorf("boot generation: got %d, want 5", m.BootGeneration)
		}
		r := m.GetReport()
		if r == nil {
			s.others <- m
			continue
		}
		c.mu.Lock()
		switch want := uint64(len(c.reports)) + 1; {
		case r.Sequence == want:
			c.reports = append(c.reports, r)
		case r.Sequence > want:
			c.t.Errorf("sequence: got %d, want at most %d", r.Sequence, want)
		}
		stored := uint64(len(c.reports))
		c.mu.Unlock()
		if c.taken != nil && !c.taken(r) {
			cut()
			continue
		}
		s.send(&agent.ToAgent{Message: &agent.ToAgent_Ack{Ack: &agent.Ack{Sequence: stored}}})
	}
}

// results gives the stored results of an order.
func (c *controller) results(id int64) []*agent.JobResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*agent.JobResult
	for _, r := range c.reports {
		if r.OrderId == id && r.GetResult() != nil {
			out = append(out, r.GetResult())
		}
	}
	return out
}
