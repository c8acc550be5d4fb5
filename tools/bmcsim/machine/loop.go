package machine

import (
	"context"
	"time"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

// loop is the only goroutine that touches the hardware.
func (m *Machine) loop(ctx context.Context) {
	defer close(m.done)
	for {
		var ended <-chan struct{}
		if m.run != nil {
			ended = m.run.Done()
		}
		select {
		case <-ctx.Done():
			if m.run != nil {
				m.kill(false)
			}
			return
		case <-ended:
			m.ended(ctx)
		case c := <-m.cmds:
			m.apply(ctx, c)
			m.mu.Lock()
			m.taken--
			m.mu.Unlock()
		}
	}
}

func (m *Machine) apply(ctx context.Context, c command) {
	on := m.run != nil
	switch {
	case c.act == On && !on:
		m.sleep(ctx, m.cfg.Faults.Get().PowerOnDelay)
		m.powerOn(ctx, c.src)
	case (c.act == Off || c.act == plug) && on:
		if c.act == Off {
			m.sleep(ctx, m.cfg.Faults.Get().PowerOffDelay)
		}
		m.powerOff(c.src, true)
	case c.act == SoftOff && on:
		if m.cfg.Faults.Get().SoftIgnored {
			return
		}
		if err := m.run.PressPower(); err != nil {
			m.cfg.Log.Warn("press power button", "err", err)
		}
	case c.act == Cycle && on:
		m.sleep(ctx, m.cfg.Faults.Get().PowerOffDelay)
		m.powerOff(c.src, true)
		m.sleep(ctx, m.cfg.CycleTime)
		m.powerOn(ctx, c.src)
	case c.act == Reset && on:
		m.kill(false)
		m.post(ctx, WasReset, c.src)
	}
}

// ended handles a run that ended by itself.
func (m *Machine) ended(ctx context.Context) {
	switch why := m.run.Reason(); why {
	case GuestReset:
		m.forget()
		m.post(ctx, WasReset, FromGuest)
	case GuestOff:
		m.powerOff(FromGuest, false)
	default:
		m.powerOff(FromPlug, true)
	}
}

func (m *Machine) powerOn(ctx context.Context, src Source) {
	if !m.post(ctx, PoweredOn, src) || !m.cfg.Faults.Take(flaps) {
		return
	}
	after := m.cfg.Faults.Get().FlapAfter
	if after == 0 {
		after = time.Second
	}
	m.sleep(ctx, after)
	m.powerOff(FromFault, true)
}

// post starts the hardware for one POST and says whether it runs.
func (m *Machine) post(ctx context.Context, kind Kind, src Source) bool {
	m.mu.Lock()
	boot := m.takeBoot(src == FromGuest)
	m.mu.Unlock()
	run, err := m.cfg.Hardware.Start(ctx, boot)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.cfg.Log.Error("start hardware", "err", err)
		m.record(Event{Kind: StartFailed, Source: src, Detail: err.Error()})
		m.flip(false)
		return false
	}
	m.run = run
	m.flip(true)
	m.record(Event{Kind: kind, Source: src, Detail: string(boot.Device)})
	return true
}

// powerOff ends the run, if it still lives, and records that power is off.
func (m *Machine) powerOff(src Source, cut bool) {
	detail := string(m.run.Reason())
	m.kill(cut)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flip(false)
	m.record(Event{Kind: PoweredOff, Source: src, Detail: detail})
}

func (m *Machine) kill(cut bool) {
	if err := m.run.Kill(cut); err != nil {
		m.cfg.Log.Error("stop hardware", "err", err)
	}
	m.forget()
}

func (m *Machine) forget() {
	m.mu.Lock()
	m.run = nil
	m.mu.Unlock()
}

// flip sets the power state. m.mu is held.
func (m *Machine) flip(on bool) {
	if m.on != on {
		m.on, m.lastFlip = on, m.cfg.Now()
	}
}

func (m *Machine) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func flaps(f *fault.Faults) *int { return &f.Flap }
