package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// maxMessage bounds one request, in bytes.
	maxMessage = 16 << 20
	// callLimit bounds a call that is no stream.
	callLimit = 30 * time.Second
	// pollEvery is the floor under wake-ups of watches, which may be lost.
	pollEvery = 500 * time.Millisecond
)

// Check is one part of the controller that can be unhealthy.
type Check struct {
	Name string
	// Run returns nil when the part works; its error is shown to anybody, so it
	// must name no secret.
	Run func(ctx context.Context) error
}

// Config is what the API needs. All fields but the last four are required.
type Config struct {
	Store  Store
	Images Images
	// Manifest gets an image's canonical manifest, of another controller when
	// there is no copy here; nil means Images.ManifestBytes.
	Manifest func(ctx context.Context, d manifest.Digest) ([]byte, error)
	Open     Open
	Board    *event.Board
	// Quirks say of models of machines what they do not survive; may be nil.
	Quirks power.Quirks
	// ReadBack is how this site proves what deploys write.
	ReadBack machine.ReadBack
	// ControllerID is who is recorded as holding a copy of an imported image.
	ControllerID string
	Log          *slog.Logger

	// Checks are what /healthz runs, beside the database.
	Checks []Check
	// Metrics serves /metrics; nil: there is none. MetricsPublic serves it
	// without a token.
	Metrics       http.Handler
	MetricsPublic bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server is the operators' API. Handler serves it; Run must run meanwhile.
type Server struct {
	operator.UnimplementedMachineServiceServer
	operator.UnimplementedOperationServiceServer
	operator.UnimplementedImageServiceServer
	operator.UnimplementedPoolServiceServer
	operator.UnimplementedEventServiceServer
	operator.UnimplementedLeaseServiceServer
	operator.UnimplementedTokenServiceServer
	operator.UnimplementedSettingServiceServer

	c        Config
	log      *slog.Logger
	door     *auth.Chokepoint
	grpc     *grpc.Server
	inside   *bufconn.Listener
	rest     http.Handler
	conn     *grpc.ClientConn
	stopped  chan struct{} // closed when watches have to end
	readers  chan struct{} // one token for each image that is read whole
	verdicts verdicts
}

// New makes the API.
func New(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Manifest == nil {
		c.Manifest = func(_ context.Context, d manifest.Digest) ([]byte, error) { return c.Images.ManifestBytes(d) }
	}
	s := &Server{c: c, log: c.Log, door: auth.NewChokepoint(Methods(), c.Store), inside: bufconn.Listen(1 << 20), stopped: make(chan struct{}), readers: make(chan struct{}, readers)}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(s.guardUnary, s.door.Unary),
		grpc.ChainStreamInterceptor(s.guardStream, s.door.Stream),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	operator.RegisterMachineServiceServer(s.grpc, s)
	operator.RegisterOperationServiceServer(s.grpc, s)
	operator.RegisterImageServiceServer(s.grpc, s)
	operator.RegisterPoolServiceServer(s.grpc, s)
	operator.RegisterEventServiceServer(s.grpc, s)
	operator.RegisterLeaseServiceServer(s.grpc, s)
	operator.RegisterTokenServiceServer(s.grpc, s)
	operator.RegisterSettingServiceServer(s.grpc, s)
	if err := s.gateway(); err != nil {
		return nil, err
	}
	return s, nil
}

// Run serves the connection inside the process by which REST reaches the
// services, until ctx ends. It then ends the watches; calls under way end when
// their listener closes.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.inside) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	close(s.stopped)
	return nil
}

// Close ends what is left. The listeners must be closed already.
func (s *Server) Close() error {
	err := s.conn.Close()
	// Not GracefulStop: it cannot drain calls that came through ServeHTTP.
	s.grpc.Stop()
	return errors.Join(err, s.inside.Close())
}
