// Package postgres runs a private PostgreSQL from the host's installed binaries:
// in the controller's data directory, over a Unix socket only, as an
// unprivileged user. So one command is a whole controller.
//
// The server lives in dataDir/postgres (mode 0700) and keeps its write-ahead log
// safe (fsync on): an acknowledged write survives a power cut. It is our child
// and ends with us: by Stop, or by SIGINT from the kernel when we are killed.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	startLimit = 2 * time.Minute // recovery after a crash may take long
	stopLimit  = 30 * time.Second
	// The pause before a server that died is started again doubles from the
	// first to the last.
	firstPause, lastPause = 200 * time.Millisecond, 10 * time.Second
)

// Config of a private server. Zero values of optional fields are usable.
type Config struct {
	// DataDir is the controller's; the database lives in DataDir/postgres.
	DataDir string
	// BinDir holds initdb and postgres; empty means the newest of
	// /usr/lib/postgresql/*/bin, or the one that an existing database needs.
	BinDir string
	// User runs the server when we are root; empty means postgres, else nobody.
	User string
	// Unsafe gives up durability for speed. For tests only.
	Unsafe bool
	Log    *slog.Logger
}

// Server is a running private server.
type Server struct {
	c      Config
	dir    string // the database
	socket string // directory of the socket
	bin    string
	run    identity
	log    *slog.Logger

	stop    chan struct{} // closed by Stop
	stopped sync.Once
	done    chan struct{} // closed when supervision has ended

	mu  sync.Mutex
	now *process
}

// Start makes the database if there is none, starts the server and returns when
// it answers. Stop must be called.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	dataDir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	s := &Server{c: c, dir: filepath.Join(dataDir, "postgres"), log: c.Log, stop: make(chan struct{}), done: make(chan struct{})}
	if s.run, err = whoRuns(c.User); err != nil {
		return nil, err
	}
	if s.bin, err = findBinaries(c.BinDir, s.dir); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if s.socket, err = s.socketDir(); err != nil {
		return nil, err
	}
	p, err := s.launch(ctx)
	if err != nil {
		return nil, errors.Join(err, s.removeSocketDir())
	}
	s.now = p
	go s.supervise()
	return s, nil
}

// DSN is how to connect; database is its name, empty for "postgres".
func (s *Server) DSN(database string) string {
	if database == "" {
		database = "postgres"
	}
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", s.socket, port, superuser, database)
}

// Stop ends the server quickly and cleanly (connections are closed, nothing is
// lost) and waits for it.
func (s *Server) Stop() error {
	s.stopped.Do(func() { close(s.stop) })
	<-s.done
	return s.removeSocketDir()
}

// Pid is the server's process, 0 while it is being started again.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return 0
	}
	return s.now.cmd.Process.Pid
}

// supervise starts the server again when it dies.
func (s *Server) supervise() {
	defer close(s.done)
	pause := firstPause
	for {
		began := time.Now()
		select {
		case <-s.stop:
			if err := s.now.end(stopLimit); err != nil {
				s.log.Warn("stop the private PostgreSQL", "err", err)
			}
			return
		case <-s.now.exited:
		}
		s.log.Error("the private PostgreSQL died; starting it again", "err", s.now.err)
		if time.Since(began) > time.Minute {
			pause = firstPause
		}
		if !s.again(&pause) {
			return
		}
	}
}

// again tries to start the server until it runs; false when Stop came first.
func (s *Server) again(pause *time.Duration) bool {
	s.set(nil)
	for {
		select {
		case <-s.stop:
			return false
		case <-time.After(*pause):
		}
		*pause = min(2**pause, lastPause)
		ctx, cancel := context.WithCancel(context.Background())
		unhook := s.cancelOnStop(cancel)
		p, err := s.launch(ctx)
		unhook()
		cancel()
		if err == nil {
			s.set(p)
			return true
		}
		s.log.Error("start the private PostgreSQL again", "err", err)
	}
}

func (s *Server) set(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = p
}

// cancelOnStop cancels when Stop is called; the returned function ends that.
func (s *Server) cancelOnStop(cancel func()) func() {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-quit:
		}
	})
	return func() { close(quit); wg.Wait() }
}

// removeSocketDir removes the directory when it is a temporary one of ours.
func (s *Server) removeSocketDir() error {
	if s.socket == "" || s.socket == s.dir {
		return nil
	}
	return os.RemoveAll(s.socket)
}
