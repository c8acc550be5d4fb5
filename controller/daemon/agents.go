package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// maxAgentMessage bounds one message of an agent, in bytes: a collection of
	// at most 4 MiB and what goes with it.
	maxAgentMessage = 8 << 20
	// agentConnectionAge makes agents connect anew now and then, so that they
	// spread over controllers that come later; a stream has the grace to end.
	agentConnectionAge   = 12 * time.Hour
	agentConnectionGrace = time.Minute
	// agentStop is how long streams of agents may take to end at a stop: they
	// are endless, so they are cut then, and the agents come back.
	agentStop = 3 * time.Second
)

// newAgentServer makes the gRPC server for agents: TLS 1.3, a client certificate
// asked for and checked by what is registered on it.
func newAgentServer(l *leaf, log *slog.Logger) *grpc.Server {
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: l.get, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"}}
	return grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxRecvMsgSize(maxAgentMessage),
		grpc.ConnectionTimeout(20*time.Second),
		grpc.MaxConcurrentStreams(16),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: agentConnectionAge, MaxConnectionAgeGrace: agentConnectionGrace, Time: 20 * time.Second, Timeout: 20 * time.Second,
		}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
			defer recovered(log, info.FullMethod, &err)
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer recovered(log, info.FullMethod, &err)
			return next(srv, s)
		}),
	)
}

// recovered keeps what an agent sent from ending the process.
func recovered(log *slog.Logger, method string, err *error) {
	if p := recover(); p != nil {
		log.Error("panic while serving an agent", "method", method, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the controller has a defect; its log says what")
	}
}

// serveGRPC makes a part of a gRPC server on open listeners.
func serveGRPC(name string, srv *grpc.Server, listeners []net.Listener) part {
	return part{name, func(ctx context.Context) error {
		served := make(chan error, len(listeners))
		for _, l := range listeners {
			go func() { served <- srv.Serve(l) }()
		}
		var failed error
		waiting := len(listeners)
		select {
		case <-ctx.Done():
		case failed = <-served:
			waiting--
		}
		cut := time.AfterFunc(agentStop, srv.Stop)
		srv.GracefulStop() // returns when Stop was called, too
		cut.Stop()
		for range waiting {
			if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
				failed = errors.Join(failed, err)
			}
		}
		return failed
	}}
}
