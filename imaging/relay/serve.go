package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxRequests are answered at once, and of one peer maxOfPeer: two
	// connections, and two more while it changes over.
	maxRequests = 32
	maxOfPeer   = 4
	// maxConnections are open at once, and from one address maxOfAddress.
	maxConnections = 64
	maxOfAddress   = 32
)

// serves is the serving side of a Node.
type serves struct {
	limit    *rate.Limiter
	handlers sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	closed  bool
	servers []*http.Server
	readers map[string]int // requests of each peer
	total   int
	last    time.Time
	waiting chan struct{} // closed at the next frame; nil when nobody waits
}

// Serve answers peers on l until Close, which ends it with nil. It closes l.
func (n *Node) Serve(l net.Listener) error {
	srv := &http.Server{
		Handler: n.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 2 << 10,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(n.opts.Log.Handler(), slog.LevelDebug),
	}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	bounded := net.Listener(&listener{Listener: l, from: map[string]int{}})
	if n.opts.TLS != nil {
		bounded = tls.NewListener(bounded, n.opts.TLS.server(n.opts.Now))
	}
	if !n.serves.add(srv) {
		return l.Close()
	}
	if err := srv.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the relay at %v: %w", l.Addr(), err)
	}
	return nil
}

func (s *serves) add(srv *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.servers = append(s.servers, srv)
	return true
}

// enter admits a request, unless there are too many; leave ends it.
func (s *serves) enter(reader string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.total >= maxRequests || s.readers[reader] >= maxOfPeer {
		return false
	}
	if s.readers == nil {
		s.readers = map[string]int{}
	}
	s.readers[reader]++
	s.total++
	s.handlers.Add(1)
	return true
}

func (s *serves) leave(reader string, now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers[reader]--; s.readers[reader] == 0 {
		delete(s.readers, reader)
	}
	s.total--
	s.last = now()
	s.handlers.Done()
}

func (s *serves) state() (requests int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.last
}

// fresh is closed when there is a new frame, or none will come any more. Take
// it first and look for the frame then.
func (s *serves) fresh() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = make(chan struct{})
	}
	return s.waiting
}

func (s *serves) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting != nil {
		close(s.waiting)
		s.waiting = nil
	}
}

// close ends all servers, by force when ctx ends, and waits for the requests.
func (s *serves) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	servers := s.servers
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, srv.Close())
		}
	}
	s.handlers.Wait()
	return errors.Join(errs...)
}

// listener bounds the connections of strangers, who can only be told from
// members once they have asked: what is too much is closed at once.
type listener struct {
	net.Listener

	mu   sync.Mutex // guards the fields below
	from map[string]int
	all  int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := c.RemoteAddr().String()
		if host, _, err := net.SplitHostPort(address); err == nil {
			address = host
		}
		if l.take(address) {
			return &bounded{Conn: c, give: sync.OnceFunc(func() { l.give(address) })}, nil
		}
		_ = c.Close() // nothing was sent or received
	}
}

func (l *listener) take(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxConnections || l.from[address] >= maxOfAddress {
		return false
	}
	l.all++
	l.from[address]++
	return true
}

func (l *listener) give(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[address]--; l.from[address] == 0 {
		delete(l.from, address)
	}
}

type bounded struct {
	net.Conn
	give func()
}

func (b *bounded) Close() error {
	b.give()
	return b.Conn.Close()
}
