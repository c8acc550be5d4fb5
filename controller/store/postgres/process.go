package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const pollEvery = 20 * time.Millisecond

// process is one run of the server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended and been waited for
	err    error         // read after exited

	mu   sync.Mutex
	last []string // its newest log lines
}

// launch waits for a former server of this database to end, starts one and
// returns when it answers.
func (s *Server) launch(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.awaitFormer(ctx); err != nil {
		return nil, err
	}
	p, err := s.spawn()
	if err != nil {
		return nil, err
	}
	for {
		err := s.answers(ctx)
		if err == nil {
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("the private PostgreSQL did not start: %w: %s", p.err, p.lines())
		case <-ctx.Done():
			endErr := p.end(stopLimit)
			return nil, errors.Join(fmt.Errorf("the private PostgreSQL does not answer: %w (last: %w)", ctx.Err(), err), endErr)
		case <-time.After(pollEvery):
		}
	}
}

// awaitFormer waits while a postmaster that belongs to this directory still
// runs: one whose controller was killed is shutting down now.
func (s *Server) awaitFormer(ctx context.Context) error {
	for {
		pid := s.former()
		if pid == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another PostgreSQL (process %d) still runs on %s: is another ingotd running there?", pid, s.dir)
		case <-time.After(pollEvery):
		}
	}
}

// former is the process that the pid file names, if it is a server on this
// directory; 0 otherwise. The server itself removes a stale file.
func (s *Server) former() int {
	text, err := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0
	}
	where, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil || where != s.dir {
		return 0
	}
	return pid
}

// spawn starts the server on a thread of its own that lives as long as the
// server does: the kernel sends the death signal when that thread ends, and Go
// would otherwise end threads as it pleases.
func (s *Server) spawn() (*process, error) {
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		out, err := s.start(p)
		started <- err
		if err != nil {
			return
		}
		var reading sync.WaitGroup
		reading.Go(func() { p.read(out) })
		reading.Wait()
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("it ended by itself")
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the private PostgreSQL as %s: %w", s.run.name, err)
	}
	return p, nil
}

func (s *Server) start(p *process) (io.Reader, error) {
	p.cmd = exec.Command(filepath.Join(s.bin, "postgres"), s.arguments()...)
	p.cmd.Dir, p.cmd.Env = "/", environment()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.run.credential,
		Setpgid:    true,           // a Ctrl-C on our terminal is ours to pass on
		Pdeathsig:  syscall.SIGINT, // fast shutdown, should we be killed
	}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	return out, p.cmd.Start()
}

// arguments keep the server small; durability stays at PostgreSQL's defaults.
func (s *Server) arguments() []string {
	settings := []string{
		"listen_addresses=", "unix_socket_directories=" + s.socket, "unix_socket_permissions=0700",
		"max_connections=100", "shared_buffers=64MB", "work_mem=4MB", "maintenance_work_mem=32MB", "max_wal_size=256MB",
		"timezone=UTC", "log_timezone=UTC", "logging_collector=off", "log_destination=stderr", "log_line_prefix=",
		"password_encryption=scram-sha-256",
	}
	if s.c.Unsafe {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	} else {
		settings = append(settings, "fsync=on", "synchronous_commit=on", "full_page_writes=on")
	}
	args := []string{"-D", s.dir, "-p", strconv.Itoa(port)}
	for _, set := range settings {
		args = append(args, "-c", set)
	}
	return args
}

// read keeps the server's newest lines and passes warnings on.
func (p *process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.last = append(p.last[max(0, len(p.last)-9):], lines.Text())
		p.mu.Unlock()
	}
	io.Copy(io.Discard, out) // after a line that was too long; the pipe must not fill
}

func (p *process) lines() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "; ")
}

// end asks for a fast shutdown and waits; past the limit it uses force.
func (p *process) end(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(limit):
	}
	err := p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.exited
	return errors.Join(fmt.Errorf("it did not stop within %s and was stopped by force; it recovers at the next start", limit), err)
}

// answers asks the server for one row.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var one int
	return conn.QueryRow(ctx, "SELECT 1").Scan(&one)
}
