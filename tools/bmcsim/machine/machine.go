package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

// Action is a power request as a BMC receives it.
type Action string

// The actions. Hard off and cycle cut the power, so disks lose their caches.
const (
	On      Action = "on"
	Off     Action = "off"   // hard
	SoftOff Action = "soft"  // ACPI button
	Reset   Action = "reset" // hard, power stays
	Cycle   Action = "cycle" // off, a moment, on
	plug    Action = "plug"  // a test pulls the plug: no BMC is asked, no fault delays it
)

// Errors of Do.
var (
	// ErrState is an action that makes no sense in the present power state.
	ErrState = errors.New("not possible in the present power state")
	// ErrBusy is returned while too many actions are still to be done.
	ErrBusy = errors.New("machine busy")
	// ErrStopped is returned before Start and after Close.
	ErrStopped = errors.New("machine is not running")
)

// Config says what a Machine is made of. Hardware is required.
type Config struct {
	Hardware Hardware
	Firmware Firmware // zero means UEFI
	// CycleTime is how long power stays off in a Cycle; zero means 100 ms
	// (real boards take seconds, nobody here needs them).
	CycleTime time.Duration
	Faults    *fault.Switch    // nil: never any
	Record    string           // file that gets the Snapshot as JSON after each event; may be empty
	Log       *slog.Logger     // nil discards
	Now       func() time.Time // nil means time.Now
}

// Machine is one board. Its methods may be called concurrently; one goroutine
// applies actions in the order of their arrival.
type Machine struct {
	cfg  Config
	cmds chan command
	done chan struct{} // closed when the loop has ended

	mu       sync.Mutex // guards what follows
	started  bool
	closed   bool
	taken    int // actions accepted and not yet applied
	on       bool
	run      Run
	override Override
	changed  chan struct{}
	seq      int
	counters Counters
	events   []Event
	lastFlip time.Time // of power state, for the PowerStateLag fault
	cancel   context.CancelFunc
}

type command struct {
	act Action
	src Source
}

// New makes a machine that is switched off.
func New(cfg Config) (*Machine, error) {
	if cfg.Hardware == nil {
		return nil, errors.New("machine: no hardware given")
	}
	if cfg.Firmware == "" {
		cfg.Firmware = UEFI
	}
	if cfg.CycleTime == 0 {
		cfg.CycleTime = 100 * time.Millisecond
	}
	if cfg.Faults == nil {
		cfg.Faults = new(fault.Switch)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Machine{
		cfg: cfg, cmds: make(chan command, 16), done: make(chan struct{}), changed: make(chan struct{}),
	}, nil
}

// Start lets the machine take actions until Close. It does not power it on.
func (m *Machine) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errors.New("machine: started twice")
	}
	m.started = true
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.loop(ctx)
	return nil
}

// Close kills a run without cutting power to the disks' caches, and waits.
func (m *Machine) Close() error {
	m.mu.Lock()
	if !m.started || m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	<-m.done
	return nil
}

// Faults returns the switch that this machine obeys.
func (m *Machine) Faults() *fault.Switch { return m.cfg.Faults }

// Firmware returns what the machine boots with.
func (m *Machine) Firmware() Firmware { return m.cfg.Firmware }

// Powered tells the power state as a BMC reports it.
func (m *Machine) Powered() bool {
	lag := m.cfg.Faults.Get().PowerStateLag
	m.mu.Lock()
	defer m.mu.Unlock()
	if lag > 0 && m.cfg.Now().Sub(m.lastFlip) < lag {
		return !m.on
	}
	return m.on
}

// Do accepts an action and returns before its effect, as a BMC does; the
// effect is seen with Powered, Wait and the record. On while on and Off while
// off are accepted and do nothing. Errors: ErrState, ErrBusy, ErrStopped.
func (m *Machine) Do(act Action, src Source) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started || m.closed {
		return ErrStopped
	}
	m.record(Event{Kind: Request, Source: src, Action: act})
	m.touch()
	if (act == Reset || act == Cycle || act == SoftOff) && !m.on && m.taken == 0 {
		return fmt.Errorf("%s: %w (power is off)", act, ErrState)
	}
	if m.cfg.Faults.Get().PowerIgnored {
		return nil
	}
	return m.enqueue(command{act, src})
}

// PullPlug cuts the power as if somebody pulled the plug: at once, past the
// BMC, and not counted as a request.
func (m *Machine) PullPlug() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started || m.closed {
		return ErrStopped
	}
	return m.enqueue(command{plug, FromPlug})
}

// enqueue hands an action to the loop. m.mu is held.
func (m *Machine) enqueue(c command) error {
	select {
	case m.cmds <- c:
		m.taken++
		return nil
	default:
		return fmt.Errorf("%s: %w", c.act, ErrBusy)
	}
}
