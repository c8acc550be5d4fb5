package session

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

// Protocol is the highest version of the conversation that this agent speaks. Since
// version 2 the signatures that an order demands are checked, and disks kept and
// images relayed as it says.
const Protocol = 2

// Config of a session. All fields without a comment on their default are needed.
type Config struct {
	Controller string // host:port
	CA         string // SHA-256 of the CA's certificate, 64 hexadecimal digits
	Nonce      string
	BootMAC    string
	BootID     string // of the kernel; a new one means a new boot
	Dir        string // in RAM, for what outlives the process
	Version    string
	// Identify fills what the machine says of itself in an EnrolRequest: NICs,
	// UUID, serial and boot mode. Called once for each attempt.
	Identify func(*agent.EnrolRequest)
	Plan     Planner
	Log      *Log
	// Show is told of each change of Status; calls do not overlap. nil: nobody.
	Show func(Status)
	// FirstWait and LongestWait bound the pause between two attempts, which
	// doubles and is spread by a random half (defaults 500 ms and 30 s).
	FirstWait, LongestWait time.Duration
	// RefusedFor is how long a refused enrolment is tried again before Run
	// gives up (default 15 minutes, the life of a nonce).
	RefusedFor time.Duration
	// CallTimeout bounds a single call and the wait for a Welcome (default 20 s).
	CallTimeout time.Duration
	Now         func() time.Time // default time.Now
}

// Status is what the machine's own console shows.
type Status struct {
	Controller  string
	MachineID   string
	MachineName string
	Connected   bool
	State       string // the machine's, in the controller's word
	NextStep    string // what a person should do
	Job         string // what is being worked on, empty when idle
	Problem     string // why there is no connection
}

// Session is one agent's conversation. Make it with New, then Run it.
type Session struct {
	cfg      Config
	log      *slog.Logger
	identity *identity
	outbox   *outbox
	orders   *orders
	progress progressSlot
	relay    relaySlot
	// authority is the CA's certificate, once a controller has shown it.
	authority atomic.Pointer[x509.Certificate]

	mu     sync.Mutex // guards status and offset, and is held during Show
	status Status
	offset time.Duration // controller's clock minus ours
}

// New reads what an earlier process of this boot left in cfg.Dir. It makes no
// connection.
func New(cfg Config) (*Session, error) {
	setDefaults(&cfg)
	s := &Session{cfg: cfg, log: cfg.Log.Logger(), progress: progressSlot{ready: make(chan struct{}, 1)},
		relay: relaySlot{ready: make(chan struct{}, 1)}}
	s.status.Controller = cfg.Controller
	v, err := openVault(cfg.Dir, cfg.BootID)
	if err != nil {
		return nil, err
	}
	if s.identity, err = openIdentity(v); err != nil {
		return nil, err
	}
	if s.outbox, err = openOutbox(v, s.log, cfg.Now); err != nil {
		return nil, err
	}
	s.orders = &orders{
		vault: v, outbox: s.outbox, plan: cfg.Plan, log: s.log,
		runner:     &job.Runner{To: s, Log: s.log, Now: cfg.Now},
		generation: func() uint64 { return s.identity.current().BootGeneration },
		now:        s.controllerTime,
		changed:    func(kind string) { s.show(func(st *Status) { st.Job = kind }) },
	}
	return s, s.orders.open()
}

func setDefaults(cfg *Config) {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&cfg.FirstWait, 500*time.Millisecond)
	set(&cfg.LongestWait, 30*time.Second)
	set(&cfg.RefusedFor, 15*time.Minute)
	set(&cfg.CallTimeout, 20*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = NewLog(nil, nil, func(line string) string { return line })
	}
}

// Run enrols if that was not done in this boot, and keeps the stream open until
// ctx ends, or until the controller says to go on with what follows a result:
// that is then returned, with the stream closed and no job running. Nothing but
// a refused enrolment (ErrRefused) or ctx makes it fail. Call it once.
func (s *Session) Run(ctx context.Context) (job.After, error) {
	if err := s.enrol(ctx); err != nil {
		return job.Stay, err
	}
	running, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	for _, part := range []func(context.Context){s.orders.run, s.renewals, s.shipLog} {
		wait.Go(func() { part(running) })
	}
	after, err := s.converse(ctx)
	stop()
	wait.Wait()
	return after, err
}

// Report is job.Reporter's.
func (s *Session) Report(r *agent.Report) {
	if e := r.GetPhase(); e != nil {
		s.show(func(st *Status) {
			if e.Outcome == agent.Outcome_OUTCOME_UNSPECIFIED && st.Job != "" && e.Task == "" {
				kind, _, _ := strings.Cut(st.Job, ":")
				st.Job = kind + ": " + e.Phase
			}
		})
	}
	s.outbox.append(r)
}

// Progress is job.Reporter's.
func (s *Session) Progress(p *agent.Progress) { s.progress.put(p) }

func (s *Session) show(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status
	change(&s.status)
	if s.status != before && s.cfg.Show != nil {
		s.cfg.Show(s.status)
	}
}

func (s *Session) controllerTime() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Now().Add(s.offset)
}

// shipLog moves the agent's lines into the outbox, once a second.
func (s *Session) shipLog(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.packLog()
			return
		case <-ticker.C:
			s.packLog()
		}
	}
}

func (s *Session) packLog() {
	lines, dropped := s.cfg.Log.take()
	if dropped > 0 {
		lines = append(lines, fmt.Sprintf("[%d lines of the agent's log were dropped here]", dropped))
	}
	for len(lines) > 0 {
		n := min(len(lines), 200)
		s.outbox.append(&agent.Report{OrderId: s.orders.runningID(), Report: &agent.Report_Log{Log: &agent.LogLines{Lines: lines[:n]}}})
		lines = lines[n:]
	}
}

// ErrRefused says that the controller does not take this boot's nonce. A new
// boot gets a new one.
var ErrRefused = errors.New("the controller refuses to enrol this boot")
