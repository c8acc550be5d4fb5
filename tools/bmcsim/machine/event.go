package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Source says who caused an event.
type Source string

// The sources.
const (
	FromIPMI    Source = "ipmi"
	FromRedfish Source = "redfish"
	FromKCS     Source = "kcs"   // the guest, over its system interface
	FromGuest   Source = "guest" // the guest, by resetting or switching off
	FromPlug    Source = "plug"  // a test that pulls the plug, or a process that died
	FromFault   Source = "fault" // a fault of the fault script
)

// Kind is what happened.
type Kind string

// The kinds. Request is what a BMC was asked, the others are effects.
const (
	Request       Kind = "request"
	PoweredOn     Kind = "power-on"
	PoweredOff    Kind = "power-off"
	WasReset      Kind = "reset"
	OverrideSet   Kind = "override-set"
	OverrideUsed  Kind = "override-used"
	OverrideGone  Kind = "override-cleared"
	LegacyRefused Kind = "legacy-impossible" // a boot flag without the EFI bit on a UEFI machine
	StartFailed   Kind = "start-failed"
)

// Event is one line of the ground truth.
type Event struct {
	Seq    int       `json:"seq"`
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"kind"`
	Source Source    `json:"source,omitempty"`
	Action Action    `json:"action,omitempty"` // of a request
	Detail string    `json:"detail,omitempty"`
}

// Counters sum the events up since the machine was made.
type Counters struct {
	PowerOns    int `json:"power_ons"`
	PowerOffs   int `json:"power_offs"`
	Resets      int `json:"resets"`       // by BMC or guest, power staying on
	GuestResets int `json:"guest_resets"` // those of Resets that the guest caused
	Requests    int `json:"requests"`     // power requests that a BMC protocol took
}

// POSTs is how often firmware ran: power-ons and resets.
func (c Counters) POSTs() int { return c.PowerOns + c.Resets }

// Snapshot is the whole truth at one moment.
type Snapshot struct {
	On       bool     `json:"on"`
	Override Override `json:"override"`
	Counters Counters `json:"counters"`
	Events   []Event  `json:"events"`
}

// maxEvents bounds the record; older lines are dropped, counters are not.
const maxEvents = 10000

// record appends an event and wakes everybody who waits. m.mu is held.
func (m *Machine) record(e Event) {
	m.seq++
	e.Seq, e.Time = m.seq, m.cfg.Now()
	switch e.Kind {
	case PoweredOn:
		m.counters.PowerOns++
	case PoweredOff:
		m.counters.PowerOffs++
	case WasReset:
		m.counters.Resets++
		if e.Source == FromGuest {
			m.counters.GuestResets++
		}
	case Request:
		m.counters.Requests++
	}
	m.events = append(m.events, e)
	if len(m.events) > maxEvents {
		m.events = append([]Event(nil), m.events[len(m.events)-maxEvents:]...)
	}
	m.cfg.Log.Info("machine event", "kind", e.Kind, "source", e.Source, "action", e.Action, "detail", e.Detail)
	m.wake()
	m.save()
}

// wake releases those who wait in Wait. m.mu is held.
func (m *Machine) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Snapshot returns a copy of the state and of the record.
func (m *Machine) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot()
}

func (m *Machine) snapshot() Snapshot {
	return Snapshot{On: m.on, Override: m.current(), Counters: m.counters, Events: append([]Event(nil), m.events...)}
}

// Wait returns the first snapshot for which ok holds, looking again after
// every event, or ctx's error.
func (m *Machine) Wait(ctx context.Context, ok func(Snapshot) bool) (Snapshot, error) {
	for {
		m.mu.Lock()
		s, changed := m.snapshot(), m.changed
		m.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for machine: %w (on=%v, %+v)", ctx.Err(), s.On, s.Counters)
		}
	}
}

// save writes the snapshot to Config.Record, if there is one. m.mu is held.
// The file is replaced as a whole so that a reader never sees half of it.
func (m *Machine) save() {
	if m.cfg.Record == "" {
		return
	}
	b, err := json.MarshalIndent(m.snapshot(), "", "  ")
	if err == nil {
		tmp := filepath.Join(filepath.Dir(m.cfg.Record), "."+filepath.Base(m.cfg.Record)+".new")
		if err = os.WriteFile(tmp, append(b, '\n'), 0o644); err == nil {
			err = os.Rename(tmp, m.cfg.Record)
		}
	}
	if err != nil {
		m.cfg.Log.Warn("write machine record", "path", m.cfg.Record, "err", err)
	}
}
