package machine

import (
	"context"
	"sync"
	"time"
)

// Pretend is hardware without a VM: it only remembers how it was started.
// Its zero value is ready for use.
type Pretend struct {
	SoftOffTime time.Duration // from the ACPI button to power-off

	mu    sync.Mutex // guards what follows
	boots []Boot
	cuts  int
	run   *pretendRun
}

// Start implements Hardware.
func (p *Pretend) Start(_ context.Context, b Boot) (Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.boots = append(p.boots, b)
	p.run = &pretendRun{hw: p, done: make(chan struct{})}
	return p.run, nil
}

// Boots returns what each POST so far was told, oldest first.
func (p *Pretend) Boots() []Boot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Boot(nil), p.boots...)
}

// Cuts counts how often power was cut, as opposed to reset or shut down.
func (p *Pretend) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// End makes the present run end by itself, as a guest does with GuestReset or
// GuestOff. Without a run it does nothing.
func (p *Pretend) End(why Reason) {
	p.mu.Lock()
	run := p.run
	p.mu.Unlock()
	if run != nil {
		run.end(why)
	}
}

type pretendRun struct {
	hw   *Pretend
	once sync.Once
	done chan struct{}
	why  Reason
}

func (r *pretendRun) Done() <-chan struct{} { return r.done }

func (r *pretendRun) Reason() Reason {
	select {
	case <-r.done:
		return r.why
	default:
		return ""
	}
}

func (r *pretendRun) end(why Reason) {
	r.once.Do(func() { r.why = why; close(r.done) })
}

func (r *pretendRun) Kill(cut bool) error {
	if cut {
		r.hw.mu.Lock()
		r.hw.cuts++
		r.hw.mu.Unlock()
	}
	r.end(Killed)
	return nil
}

func (r *pretendRun) PressPower() error {
	if r.hw.SoftOffTime <= 0 {
		r.end(GuestOff)
		return nil
	}
	// The timer needs no owner: once the run has ended it changes nothing.
	time.AfterFunc(r.hw.SoftOffTime, func() { r.end(GuestOff) })
	return nil
}
