package session_test

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/proto/agent"
)

const patience = 20 * time.Second

// lab is one controller and one agent's directory.
type lab struct {
	*controller
	t    *testing.T
	dir  string
	runs atomic.Int32
	// work is what the single task of each order does.
	work func(context.Context, *job.Run) error

	mu       sync.Mutex
	statuses []session.Status
}

func newLab(t *testing.T) *lab {
	return &lab{controller: startController(t), t: t, dir: filepath.Join(t.TempDir(), "ingot"),
		work: func(context.Context, *job.Run) error { return nil }}
}

func (l *lab) config() session.Config {
	return session.Config{
		Controller: l.address, CA: l.fingerprint(), Nonce: "the-nonce-of-this-boot", BootID: "boot-1", Dir: l.dir,
		Version: "test", Identify: func(r *agent.EnrolRequest) { r.SystemSerial = "S1" },
		Plan: func(o *agent.Order) (job.Plan, error) {
			plan := job.Plan{Phases: []job.Phase{job.Single("work", 0, func(ctx context.Context, run *job.Run) error {
				l.runs.Add(1)
				return l.work(ctx, run)
			})}}
			if o.GetDeploy() != nil {
				plan.After = func() job.After { return job.Kexec }
			}
			return plan, nil
		},
		FirstWait: 5 * time.Millisecond, LongestWait: 50 * time.Millisecond, RefusedFor: 100 * time.Millisecond,
		Show: func(s session.Status) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.statuses = append(l.statuses, s)
		},
	}
}

type ending struct {
	after job.After
	err   error
}

// start runs an agent; stop ends it as if its process had been ended and gives
// what Run returned.
func (l *lab) start(cfg session.Config) (stop func() ending, done <-chan ending) {
	l.t.Helper()
	s, err := session.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.run(s)
}

// run is start for a session that was made already.
func (l *lab) run(s *session.Session) (stop func() ending, done <-chan ending) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan ending, 1)
	go func() {
		after, err := s.Run(ctx)
		ch <- ending{after, err}
		close(ch)
	}()
	var once sync.Once
	stop = func() (e ending) {
		once.Do(func() { cancel(); e = <-ch })
		return e
	}
	l.t.Cleanup(func() { stop() })
	return stop, ch
}

func (l *lab) stream() *serverStream {
	l.t.Helper()
	select {
	case s := <-l.streams:
		return s
	case <-time.After(patience):
		l.t.Fatal("no stream came")
		return nil
	}
}

// wait waits until the controller has stored what ok looks for.
func (l *lab) wait(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	l.t.Fatalf("waited for %s in vain", what)
}

func order(id int64, token uint64) *agent.Order {
	return &agent.Order{Id: id, BootGeneration: 5, LeaseToken: token, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)),
		Job: &agent.Order_Commission{Commission: &agent.CommissionJob{}}}
}

func give(s *serverStream, o *agent.Order) {
	s.send(&agent.ToAgent{Message: &agent.ToAgent_Order{Order: o}})
}
