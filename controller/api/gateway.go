package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	jsonType   = "application/json"
	eventsType = "text/event-stream"
	importPath = "/v1/images:import"
)

// gateway makes the REST side: a client of our own gRPC server over memory, so
// that streams work and the chokepoint is the same.
func (s *Server) gateway() error {
	conn, err := grpc.NewClient("passthrough:///inside",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.inside.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return fmt.Errorf("open the REST gateway: %w", err)
	}
	s.conn = conn
	plain := newBounded()
	mux := runtime.NewServeMux(
		runtime.WithRoutingErrorHandler(routingError),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, plain),
		runtime.WithMarshalerOption(eventsType, &events{plain}))
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		operator.RegisterMachineServiceHandler, operator.RegisterOperationServiceHandler, operator.RegisterImageServiceHandler,
		operator.RegisterPoolServiceHandler, operator.RegisterEventServiceHandler, operator.RegisterLeaseServiceHandler,
		operator.RegisterTokenServiceHandler, operator.RegisterSettingServiceHandler,
	} {
		if err := register(context.Background(), mux, conn); err != nil {
			return errors.Join(fmt.Errorf("open the REST gateway: %w", err), conn.Close())
		}
	}
	s.rest = s.routes(mux)
	return nil
}

// routingError answers for paths that are no method's. Left alone the gateway
// answers 501 where only the request is wrong.
func routingError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	if code != http.StatusMethodNotAllowed {
		runtime.DefaultRoutingErrorHandler(ctx, mux, m, w, r, code)
		return
	}
	err := status.Errorf(codes.NotFound, "there is no %s %.200s; /openapi.json lists all", r.Method, r.URL.Path)
	runtime.HTTPError(ctx, mux, m, w, r, &runtime.HTTPStatusError{HTTPStatus: http.StatusNotFound, Err: err})
}

// routes are the paths beside gRPC.
func (s *Server) routes(gateway http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		_, _ = w.Write(operator.OpenAPI()) // a client that went away is no concern of ours
	})
	if s.c.Metrics != nil {
		mux.Handle("GET /metrics", s.tokenFirst(s.c.Metrics))
	}
	mux.Handle("/v1/", s.tokenFirstJSON(s.exportRaw(gateway)))
	return mux
}

// Handler serves everything: gRPC and the rest, told apart by what HTTP/2 says
// of its content. It needs TLS with h2 in front of it.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			if r, err := s.arrive(r); err != nil {
				refuseGRPC(w, err)
			} else {
				s.grpc.ServeHTTP(w, r)
			}
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if !readable(r.URL) {
			refuse(w, codes.InvalidArgument, "path and query must be UTF-8")
			return
		}
		if r.URL.Path != importPath { // of which each piece is bounded
			r.Body = http.MaxBytesReader(w, r.Body, maxMessage)
		}
		s.rest.ServeHTTP(w, r)
	})
}

// arrive checks the caller's token before the body is touched.
func (s *Server) arrive(r *http.Request) (*http.Request, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	checked, err := s.door.Arrive(ctx, r.Header.Get("Authorization"))
	if err != nil {
		return nil, s.shown(r.URL.Path, err)
	}
	// What was learnt goes on, the limit of the check does not.
	return r.WithContext(auth.Arrived(r.Context(), checked)), nil
}

// tokenFirstJSON is tokenFirst in the words of the gateway.
func (s *Server) tokenFirstJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.arrive(r); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, statusCode(err), statusText(err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenFirst lets in whoever bears an operator's token.
func (s *Server) tokenFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !s.c.MetricsPublic {
			if !ok {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "no token: send the header Authorization: Bearer TOKEN", http.StatusUnauthorized)
				return
			}
			if _, err := s.c.Store.TokenCheck(r.Context(), token); err != nil {
				s.httpError(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) httpError(w http.ResponseWriter, r *http.Request, err error) {
	shown := s.shown(r.URL.Path, err)
	http.Error(w, statusText(shown), runtime.HTTPStatusFromCode(statusCode(shown)))
}

// events writes each message of a stream as one server-sent event (WHATWG HTML,
// section 9.2).
type events struct{ *bounded }

func (e *events) ContentType(any) string       { return eventsType }
func (e *events) StreamContentType(any) string { return eventsType }
func (e *events) Delimiter() []byte            { return []byte("\n\n") }

func (e *events) Marshal(v any) ([]byte, error) {
	body, err := e.bounded.Marshal(v)
	return append([]byte("data: "), body...), err
}
