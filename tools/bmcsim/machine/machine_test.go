package machine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func run(t *testing.T, edit func(*Config)) (*Machine, *Pretend, *clock) {
	t.Helper()
	hw, clk := new(Pretend), &clock{now: time.Unix(1_800_000_000, 0)}
	cfg := Config{Hardware: hw, Faults: new(fault.Switch), Now: clk.Now, CycleTime: time.Millisecond}
	if edit != nil {
		edit(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, hw, clk
}

func until(t *testing.T, m *Machine, ok func(Snapshot) bool) Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := m.Wait(ctx, ok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func do(t *testing.T, m *Machine, a Action) {
	t.Helper()
	if err := m.Do(a, FromIPMI); err != nil {
		t.Fatal(err)
	}
}

func on(s Snapshot) bool  { return s.On }
func off(s Snapshot) bool { return !s.On }

func TestCounts(t *testing.T) {
	t.Parallel()
	m, hw, _ := run(t, nil)
	if err := m.Do(Reset, FromIPMI); !errors.Is(err, ErrState) {
		t.Errorf("reset while off: %v, want ErrState", err)
	}
	do(t, m, On)
	do(t, m, Reset) // at once: taken although the power-on may still be under way
	do(t, m, On)    // no effect
	until(t, m, func(s Snapshot) bool { return s.Counters.Resets == 1 })
	hw.End(GuestReset)
	until(t, m, func(s Snapshot) bool { return s.Counters.GuestResets == 1 })
	do(t, m, Cycle)
	until(t, m, func(s Snapshot) bool { return s.Counters.PowerOns == 2 })
	do(t, m, SoftOff)
	until(t, m, off)
	do(t, m, On)
	until(t, m, on)
	if err := m.PullPlug(); err != nil {
		t.Fatal(err)
	}
	s := until(t, m, off)
	want := Counters{PowerOns: 3, PowerOffs: 3, Resets: 2, GuestResets: 1, Requests: 7}
	if diff := cmp.Diff(s.Counters, want); diff != "" {
		t.Errorf("counters (-got +want):\n%s", diff)
	}
	if got := s.Counters.POSTs(); got != 5 || got != len(hw.Boots()) {
		t.Errorf("POSTs %d, hardware starts %d; want 5 of both", got, len(hw.Boots()))
	}
	if hw.Cuts() != 2 { // cycle and plug; neither resets nor a soft power-off
		t.Errorf("power was cut %d times, want 2", hw.Cuts())
	}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	ipmi := &ClearRules{}
	keep := &ClearRules{KeepOnTimeout: true, KeepOnSoftReset: true}
	pxe := Override{Valid: true, Device: PXE}
	for name, c := range map[string]struct {
		firmware Firmware
		o        Override
		rules    *ClearRules
		wait     time.Duration // before power-on
		want     []Boot        // of a power-on, a guest's reset and another
	}{
		"once":                      {UEFI, pxe, nil, 0, []Boot{{Device: PXE}, {}, {}}},
		"IPMI in time":              {UEFI, pxe, ipmi, 59 * time.Second, []Boot{{Device: PXE}, {}, {}}},
		"IPMI too late":             {UEFI, pxe, ipmi, 61 * time.Second, []Boot{{}, {}, {}}},
		"IPMI told to wait":         {UEFI, pxe, keep, time.Hour, []Boot{{Device: PXE}, {}, {}}},
		"Redfish waits":             {UEFI, pxe, nil, time.Hour, []Boot{{Device: PXE}, {}, {}}},
		"persistent":                {UEFI, Override{Valid: true, Device: Disk, Persistent: true}, ipmi, 0, []Boot{{Device: Disk, Persistent: true}, {Device: Disk, Persistent: true}, {Device: Disk, Persistent: true}}},
		"legacy on UEFI":            {UEFI, Override{Valid: true, Device: PXE, Legacy: true}, ipmi, 0, []Boot{{}, {}, {}}},
		"legacy on BIOS":            {BIOS, Override{Valid: true, Device: PXE, Legacy: true}, ipmi, 0, []Boot{{Device: PXE}, {}, {}}},
		"valid bit clear":           {UEFI, Override{Device: PXE}, ipmi, 0, []Boot{{}, {}, {}}},
		"persistent, then too late": {UEFI, Override{Valid: true, Device: PXE, Persistent: true}, ipmi, 61 * time.Second, []Boot{{}, {}, {}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, hw, clk := run(t, func(cfg *Config) { cfg.Firmware = c.firmware })
			m.SetOverride(c.o, FromIPMI, c.rules)
			clk.Add(c.wait)
			do(t, m, On)
			until(t, m, on)
			for i := range 2 {
				hw.End(GuestReset)
				until(t, m, func(s Snapshot) bool { return s.Counters.Resets == i+1 })
			}
			if diff := cmp.Diff(hw.Boots(), c.want); diff != "" {
				t.Errorf("boots (-got +want):\n%s", diff)
			}
			refused := false
			for _, e := range m.Snapshot().Events {
				refused = refused || e.Kind == LegacyRefused
			}
			if want := c.o.Legacy && c.firmware == UEFI; refused != want {
				t.Errorf("legacy boot recorded as impossible: %v, want %v", refused, want)
			}
		})
	}
}

// Flags set while the system runs are gone when the guest resets itself,
// unless parameter 3 says otherwise.
func TestFlagsAtSoftReset(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		m, hw, _ := run(t, nil)
		do(t, m, On)
		until(t, m, on)
		m.SetOverride(Override{Valid: true, Device: PXE}, FromIPMI, &ClearRules{KeepOnSoftReset: keep})
		hw.End(GuestReset)
		until(t, m, func(s Snapshot) bool { return s.Counters.Resets == 1 })
		want := Boot{}
		if keep {
			want.Device = PXE
		}
		if got := hw.Boots()[1]; got != want {
			t.Errorf("keep %v: boot after the guest's reset %+v, want %+v", keep, got, want)
		}
	}
}

func TestPowerFaults(t *testing.T) {
	t.Parallel()
	m, hw, clk := run(t, nil)
	m.Faults().Set(fault.Faults{PowerIgnored: true})
	do(t, m, On)
	if got := m.Snapshot().Counters; got.Requests != 1 || got.PowerOns != 0 {
		t.Errorf("ignored request: %+v", got)
	}
	m.Faults().Set(fault.Faults{Flap: 1, FlapAfter: time.Millisecond})
	do(t, m, On)
	until(t, m, func(s Snapshot) bool { return s.Counters.PowerOffs == 1 })
	m.Faults().Set(fault.Faults{PowerStateLag: 10 * time.Second})
	do(t, m, On)
	until(t, m, on)
	if m.Powered() {
		t.Error("a lagging BMC reports the new state at once")
	}
	clk.Add(11 * time.Second)
	if !m.Powered() {
		t.Error("a lagging BMC never reports the new state")
	}
	m.Faults().Set(fault.Faults{SoftIgnored: true})
	do(t, m, SoftOff)
	do(t, m, Reset)
	until(t, m, func(s Snapshot) bool { return s.Counters.Resets == 1 })
	if !m.Snapshot().On {
		t.Error("a deaf guest switched off")
	}
	hw.End(Lost)
	if s := until(t, m, off); s.Events[len(s.Events)-1].Source != FromPlug {
		t.Errorf("lost power is recorded as %+v", s.Events[len(s.Events)-1])
	}
}

type broken struct{}

func (broken) Start(context.Context, Boot) (Run, error) { return nil, errors.New("no board") }

func TestStartFails(t *testing.T) {
	t.Parallel()
	m, _, _ := run(t, func(c *Config) { c.Hardware = broken{} })
	do(t, m, On)
	s := until(t, m, func(s Snapshot) bool { return s.Events[len(s.Events)-1].Kind == StartFailed })
	if s.On || s.Counters.PowerOns != 0 {
		t.Errorf("a board that cannot start: %+v", s)
	}
}

func TestRecordFile(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/record.json"
	m, _, _ := run(t, func(c *Config) { c.Record = file })
	do(t, m, On)
	until(t, m, on)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Do(On, FromIPMI); !errors.Is(err, ErrStopped) {
		t.Errorf("Do after Close: %v, want ErrStopped", err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if !s.On || s.Counters.PowerOns != 1 || len(s.Events) != 2 {
		t.Errorf("record says %+v", s)
	}
}
