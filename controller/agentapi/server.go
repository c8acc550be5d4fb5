package agentapi

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Config of a Server.
type Config struct {
	Store        *store.Store
	Authority    *auth.Authority
	ControllerID string
	Jobs         Jobs
	Board        *event.Board
	Relay        Relay
	Log          *slog.Logger
}

// Server implements the agents' service.
type Server struct {
	agent.UnimplementedAgentServiceServer
	Config
	hub *hub
}

// New makes a server.
func New(c Config) *Server { return &Server{Config: c, hub: newHub()} }

// Register puts it on a gRPC server, which must ask clients for certificates
// (tls.RequestClientCert); they are checked here.
func (s *Server) Register(r grpc.ServiceRegistrar) { agent.RegisterAgentServiceServer(r, s) }

// lookEvery is the floor under wake-ups, which may be lost: one query for all
// machines whose streams are here.
const lookEvery = 2 * time.Second

// Run wakes the streams for whose machine something changed in the store, until
// ctx ends.
func (s *Server) Run(ctx context.Context) error {
	wake := s.Store.WakeMachines(ctx)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake.C:
			ids, all := wake.Take()
			s.hub.wake(ids, all)
		case <-ticker.C:
			marks, err := s.Store.AgentsHeld(ctx, s.ControllerID)
			if err == nil {
				s.hub.compare(marks)
			} else if ctx.Err() == nil {
				s.Log.Warn("look at the agents that are connected here", "err", err)
			}
		}
	}
}

// Versions of the protocol that are spoken here. An agent of version 1 passes over
// what it does not know of an order, and with that the signatures that it should
// find.
const (
	leastProtocol = 2
	maxProtocol   = 2
)

// Enrol implements the service.
func (s *Server) Enrol(ctx context.Context, r *agent.EnrolRequest) (*agent.EnrolResponse, error) {
	if r.GetProtocol() < leastProtocol || r.GetProtocol() > maxProtocol {
		return nil, fault.New(fault.Invalid, "agent speaks protocol %d, this controller %d to %d; boot it with this controller's initramfs",
			r.GetProtocol(), leastProtocol, maxProtocol)
	}
	request, err := auth.ParseRequest(r.GetCertificateRequest())
	if err != nil {
		return nil, err
	}
	who, err := identity(r)
	if err != nil {
		return nil, err
	}
	claim, err := s.Store.SessionClaim(ctx, r.GetNonce(), request.KeySHA256[:], who)
	if err != nil {
		s.Log.Warn("enrolment refused", "mac", r.GetBootMac(), "err", err)
		return nil, err
	}
	now := time.Now()
	signed, err := s.sign(ctx, request, claim.MachineID, claim.BootGeneration, now)
	if err != nil {
		return nil, err
	}
	s.Log.Info("agent enrolled", "machine_id", claim.MachineID, "boot_generation", claim.BootGeneration, "mac", r.GetBootMac())
	return &agent.EnrolResponse{
		Certificate: signed.DER, MachineId: string(claim.MachineID), BootGeneration: claim.BootGeneration,
		ControllerTime: timestamppb.New(now), ExpiresAt: timestamppb.New(signed.NotAfter), MachineName: claim.Hostname,
	}, nil
}

func (s *Server) sign(ctx context.Context, r auth.Request, id machine.ID, generation uint64, now time.Time) (auth.Signed, error) {
	signed, err := s.Authority.SignAgent(r, string(id), generation, now)
	if err != nil {
		return signed, err
	}
	return signed, s.Store.CertificateRecord(ctx, id, generation, r.KeySHA256[:], signed.Serial, signed.NotAfter)
}

func identity(r *agent.EnrolRequest) (store.Identity, error) {
	mac, err := net.ParseMAC(r.GetBootMac())
	if err != nil {
		return store.Identity{}, fault.New(fault.Invalid, "boot MAC %q is not a hardware address", text(r.GetBootMac()))
	}
	who := store.Identity{BootMAC: mac, UUID: text(r.GetSystemUuid()), Serial: text(r.GetSystemSerial()), BootMode: bootMode(r.GetBootMode()), BootID: text(r.GetBootId())}
	if len(r.GetNics()) > maxNICs {
		return who, fault.New(fault.Invalid, "agent names %d NICs, at most %d are taken", len(r.GetNics()), maxNICs)
	}
	for _, n := range r.GetNics() {
		if mac, err := net.ParseMAC(n.GetPermanentMac()); err == nil {
			who.NICs = append(who.NICs, machine.NIC{MAC: mac, LocallyAdministered: n.GetLocallyAdministered() || mac[0]&2 != 0})
		}
	}
	return who, nil
}

// Renew implements the service.
func (s *Server) Renew(ctx context.Context, r *agent.RenewRequest) (*agent.RenewResponse, error) {
	who, err := s.caller(ctx, true)
	if err != nil {
		return nil, err
	}
	request, err := auth.ParseRequest(r.GetCertificateRequest())
	if err != nil {
		return nil, err
	}
	if request.KeySHA256 != who.KeySHA256 {
		return nil, fault.New(fault.Denied, "a certificate is renewed for the key that has it")
	}
	signed, err := s.sign(ctx, request, machine.ID(who.MachineID), who.BootGeneration, time.Now())
	if err != nil {
		return nil, err
	}
	return &agent.RenewResponse{Certificate: signed.DER, ExpiresAt: timestamppb.New(signed.NotAfter)}, nil
}

// caller checks the client certificate of a call and that its boot is the
// machine's current one.
func (s *Server) caller(ctx context.Context, expiredToo bool) (auth.Agent, error) {
	cert, err := clientCertificate(ctx)
	if err != nil {
		return auth.Agent{}, err
	}
	who, err := s.Authority.VerifyAgent(cert, time.Now(), expiredToo)
	if err != nil {
		return auth.Agent{}, err
	}
	return who, s.Store.CertificateCheck(ctx, machine.ID(who.MachineID), who.BootGeneration, who.KeySHA256[:])
}

func clientCertificate(ctx context.Context) (*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			return info.State.PeerCertificates[0], nil
		}
	}
	return nil, fault.New(fault.Unauthenticated, "no client certificate: enrol first")
}

// reachedAt is the host by which the agent reached us.
func reachedAt(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.LocalAddr == nil {
		return "", errors.New("connection without a local address")
	}
	host, _, err := net.SplitHostPort(p.LocalAddr.String())
	return host, err
}
