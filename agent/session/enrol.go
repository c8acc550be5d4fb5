package session

import (
	"context"
	"fmt"
	"time"

	"crypto/tls"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

// maxMessage is the largest message taken: an order with the largest manifest (64 MiB)
// and a seed.
const maxMessage = 72 << 20

// dial makes a connection that shows the certificate, if there is one. Each
// attempt has its own, so that a renewed certificate or a moved controller is
// never missed.
func (s *Session) dial() (*grpc.ClientConn, error) {
	config, err := PinnedTLS(s.cfg.Controller, s.cfg.CA, nil)
	if err != nil {
		return nil, err
	}
	proven := config.VerifyConnection
	config.VerifyConnection = func(c tls.ConnectionState) error {
		if err := proven(c); err != nil {
			return err
		}
		s.authority.Store(pinned(c.PeerCertificates, s.cfg.CA))
		return nil
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return s.identity.certificate(), nil
	}
	conn, err := grpc.NewClient("passthrough:///"+s.cfg.Controller,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: s.cfg.CallTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.cfg.Controller, err)
	}
	return conn, nil
}

// Certificate is what this boot was enrolled with, for servers of the site that
// ask for it; an empty one before that.
func (s *Session) Certificate() *tls.Certificate { return s.identity.certificate() }

// call makes one call over a connection of its own.
func (s *Session) call(ctx context.Context, do func(context.Context, agent.AgentServiceClient) error) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	return do(ctx, agent.NewAgentServiceClient(conn))
}

// enrol returns when there is a certificate, whatever time that takes, unless
// the controller refuses for longer than RefusedFor.
func (s *Session) enrol(ctx context.Context) error {
	if e := s.identity.current(); e.MachineID != "" {
		s.log.Info("session of this boot is taken up again", "machine_id", e.MachineID)
		s.show(func(st *Status) { st.MachineID, st.MachineName = e.MachineID, e.MachineName })
		return nil
	}
	request, err := s.identity.request()
	if err != nil {
		return err
	}
	start := s.cfg.Now()
	for wait := s.newBackoff(); ; {
		err := s.enrolOnce(ctx, request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if refused(err) && s.cfg.Now().Sub(start) > s.cfg.RefusedFor {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		s.log.Warn("enrolment will be tried again", "err", err)
		s.show(func(st *Status) { st.Problem = err.Error() })
		if err := wait.pause(ctx); err != nil {
			return err
		}
	}
}

// refused tells an answer that stays the same from a failure that passes.
func refused(err error) bool {
	switch fault.KindOf(err) {
	case fault.Denied, fault.Unauthenticated, fault.Invalid, fault.NotFound, fault.Precondition, fault.Stale:
		return true
	}
	return false
}

func (s *Session) enrolOnce(ctx context.Context, request []byte) error {
	ask := &agent.EnrolRequest{
		Nonce: s.cfg.Nonce, CertificateRequest: request, BootMac: s.cfg.BootMAC,
		AgentVersion: s.cfg.Version, Protocol: Protocol, BootId: s.cfg.BootID,
	}
	s.cfg.Identify(ask)
	return s.call(ctx, func(ctx context.Context, client agent.AgentServiceClient) error {
		answer, err := client.Enrol(ctx, ask)
		if err != nil {
			return err
		}
		e := Enrolled{MachineID: answer.MachineId, MachineName: answer.MachineName,
			BootGeneration: answer.BootGeneration, Certificate: answer.Certificate}
		if err := s.identity.accept(e); err != nil {
			return err
		}
		s.log.Info("enrolled", "machine_id", e.MachineID, "name", e.MachineName, "boot_generation", e.BootGeneration)
		s.show(func(st *Status) { st.MachineID, st.MachineName, st.Problem = e.MachineID, e.MachineName, "" })
		return nil
	})
}

// renewals asks for a new certificate at half of the life of the one in force,
// and goes on asking when it is past its end.
func (s *Session) renewals(ctx context.Context) {
	for wait := s.newBackoff(); ; {
		from, to := s.identity.lifetime()
		due := from.Add(to.Sub(from) / 2)
		if err := sleep(ctx, due.Sub(s.controllerTime())); err != nil {
			return
		}
		if err := s.renew(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.Warn("certificate not renewed, will be tried again", "err", err, "ends", to)
			if wait.pause(ctx) != nil {
				return
			}
			continue
		}
		wait.reset()
	}
}

func (s *Session) renew(ctx context.Context) error {
	request, err := s.identity.request()
	if err != nil {
		return err
	}
	return s.call(ctx, func(ctx context.Context, client agent.AgentServiceClient) error {
		answer, err := client.Renew(ctx, &agent.RenewRequest{CertificateRequest: request})
		if err != nil {
			return err
		}
		_, old := s.identity.lifetime()
		if err := s.identity.renewed(answer.Certificate); err != nil {
			return err
		}
		_, until := s.identity.lifetime()
		if !until.After(old) {
			return fmt.Errorf("the new certificate ends at %v, no later than the old one", until)
		}
		s.log.Info("certificate renewed", "ends", until)
		return nil
	})
}
