// Package redfish lets a simulated machine be driven by Redfish (DSP0266):
// HTTPS with basic and session authentication, over a small tree of its own
// or a vendor's whole tree. The live parts (power, reset, boot override,
// sessions, tasks) are laid over the tree at the vendor's own paths and
// behave as that vendor's do, where that is known; the fault script makes it
// behave worse.
package redfish

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

// Identity is what the tree is made to say about this machine. Empty fields
// leave what the tree has.
type Identity struct {
	Name, Manufacturer, Model, Serial string
	UUID                              string // RFC 4122 text
	MACs                              []net.HardwareAddr
	MemoryMiB, CPUs                   int
}

// Config of a Server. Machine, User and Password are required.
type Config struct {
	Machine  *machine.Machine
	Addr     string // TCP, such as "10.99.0.10:443"; port 0 takes a free one
	User     string
	Password string
	Tree     *Tree // nil: Builtin
	Identity Identity
	// ResetBMC is called when Manager.Reset is asked; may be nil.
	ResetBMC func()
	// Certificate: zero makes a self-signed one for Addr's IP.
	Certificate *tls.Certificate
	Log         *slog.Logger
}

// Server is a Redfish service for one machine.
type Server struct {
	cfg  Config
	m    *machine.Machine
	tree *Tree
	v    vendor
	ln   net.Listener
	http *http.Server
	wg   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	sessions map[string]*session
	tasks    []*task
	nextID   int
	downTill time.Time
	healed   bool            // the manager was reset since it started, for MissingUntilReset
	seen     map[string]bool // paths fetched, for NotFoundUntilParent
	patched  map[string]object
}

// Listen binds the socket; nothing is answered before Start.
func Listen(cfg Config) (*Server, error) {
	if cfg.Machine == nil || cfg.User == "" {
		return nil, errors.New("redfish: machine and user are required")
	}
	if cfg.Tree == nil {
		cfg.Tree = Builtin()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, m: cfg.Machine, tree: cfg.Tree,
		sessions: map[string]*session{}, seen: map[string]bool{}, patched: map[string]object{},
	}
	var err error
	if s.v, err = learn(cfg.Tree); err != nil {
		return nil, err
	}
	if cfg.Certificate == nil {
		if cfg.Certificate, err = selfSigned(cfg.Addr); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for Redfish on %s: %w", cfg.Addr, err)
	}
	s.ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*cfg.Certificate}, MinVersion: tls.VersionTLS12})
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Start answers until Close.
func (s *Server) Start() {
	s.wg.Go(func() {
		if err := s.http.Serve(s.ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("serve Redfish", "err", err)
		}
	})
}

// Close drops all connections and waits for the server.
func (s *Server) Close() error {
	err := s.http.Close()
	s.ln.Close()
	s.wg.Wait()
	return err
}

// URL is the base, such as https://127.0.0.1:8443.
func (s *Server) URL() string { return "https://" + s.ln.Addr().String() }

// ServeHTTP answers one request: faults first, then authentication, then the
// resource.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w, ok := s.misbehave(w, r)
	if !ok {
		return
	}
	w.Header().Set("OData-Version", "4.0")
	w.Header().Set("Cache-Control", "no-cache")
	k := key(r.URL.Path)
	if k == "" {
		http.Redirect(w, r, "/redfish/v1/", http.StatusMovedPermanently)
		return
	}
	if !s.open(r.Method, k) && !s.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish"`)
		s.fail(w, http.StatusUnauthorized, "Base.1.8.InsufficientPrivilege", "Log in with basic authentication or a session token.")
		return
	}
	if !s.reachable(k) {
		s.fail(w, http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "There is no resource at "+r.URL.Path+".")
		return
	}
	s.route(w, r, k)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request, k string) {
	switch {
	case k == key(s.v.sessions) || strings.HasPrefix(k, key(s.v.sessions)+"/"):
		s.serveSessions(w, r, k)
	case strings.HasPrefix(k, "/redfish/v1/taskservice/tasks") || strings.HasPrefix(k, "/redfish/v1/taskservice/taskmonitors/"):
		s.serveTasks(w, r, k)
	case k == key(s.v.resetTarget) && r.Method == http.MethodPost:
		s.resetSystem(w, r)
	case k == key(s.v.managerReset) && r.Method == http.MethodPost:
		s.resetManager(w, r)
	case (k == key(s.v.system) || k == key(s.v.settings())) && r.Method == http.MethodPatch:
		s.patchSystem(w, r, k)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.getResource(w, r, k)
	default:
		s.fail(w, http.StatusMethodNotAllowed, "Base.1.8.OperationNotAllowed", r.Method+" is not possible on "+r.URL.Path+".")
	}
}

// open says what may be asked without logging in (DSP0266, section 13.3.1).
func (s *Server) open(method, k string) bool {
	switch k {
	case "/redfish", "/redfish/v1", "/redfish/v1/odata", "/redfish/v1/$metadata":
		return method == http.MethodGet || method == http.MethodHead
	}
	return method == http.MethodPost && (k == key(s.v.sessions) || k == key(s.v.sessions)+"/members")
}

func (s *Server) authorised(r *http.Request) bool {
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		return s.touchSession(token)
	}
	user, pass, ok := r.BasicAuth()
	return ok && s.credentials(user, pass)
}

func (s *Server) credentials(user, pass string) bool {
	u := subtle.ConstantTimeCompare([]byte(user), []byte(s.cfg.User))
	p := subtle.ConstantTimeCompare([]byte(pass), []byte(s.cfg.Password))
	return u&p == 1
}

// reachable is false while the NotFoundUntilParent fault hides k.
func (s *Server) reachable(k string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := k[:strings.LastIndex(k, "/")]
	hidden := s.m.Faults().Get().NotFoundUntilParent && parent != "" && parent != "/redfish" && !s.seen[parent]
	if len(s.seen) < maxDocs && !hidden {
		s.seen[k] = true
	}
	return !hidden
}

// sleep waits unless the client goes first.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
