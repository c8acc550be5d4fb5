package powertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

func wantCounts(t *testing.T, b BMC, want Counts) {
	t.Helper()
	if got := b.Counts(); got != want {
		t.Errorf("the machine did: got %+v, want %+v", got, want)
	}
}

func powerPath(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	for _, step := range []struct {
		do      func(context.Context, power.Driver, power.Waits) (power.Outcome, error)
		changed bool
		on      bool
		counts  Counts
	}{
		{power.EnsureOff, false, false, Counts{}},
		{power.EnsureOn, true, true, Counts{PowerOns: 1}},
		{power.EnsureOn, false, true, Counts{PowerOns: 1}},
		{power.EnsureOff, true, false, Counts{PowerOns: 1, PowerOffs: 1}},
		{power.EnsureOff, false, false, Counts{PowerOns: 1, PowerOffs: 1}},
	} {
		out, err := step.do(ctx, d, quick)
		must(t, "step", err)
		if out.Changed != step.changed {
			t.Errorf("changed: got %v, want %v", out.Changed, step.changed)
		}
		if got := b.Powered(); got != step.on {
			t.Errorf("true power: got %v, want %v", got, step.on)
		}
		wantCounts(t, b, step.counts)
	}
}

func cycle(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	_, err = power.Cycle(ctx, d, quick)
	must(t, "cycle", err)
	wantCounts(t, b, Counts{PowerOns: 2, PowerOffs: 1})
}

func reset(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	must(t, "reset", d.Reset(ctx))
	for b.Counts().Resets == 0 && ctx.Err() == nil {
		_, err := d.State(ctx) // paces the waiting
		must(t, "state", err)
	}
	wantCounts(t, b, Counts{PowerOns: 1, Resets: 1})
}

func bootOverride(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	modes := s.Modes
	if modes == nil {
		modes = []power.Mode{power.ModeUEFI, power.ModeBIOS}
	}
	for _, mode := range modes {
		for _, dev := range []power.Device{power.DevicePXE, power.DeviceDisk, power.DeviceSetup} {
			for _, once := range []bool{true, false} {
				want := power.BootOverride{Device: dev, Once: once, Mode: mode}
				r, err := d.BootSet(ctx, want)
				must(t, "set "+want.String(), err)
				if r.Override != want || r.Raw == "" {
					t.Errorf("read back: got %v (%q), want %v", r.Override, r.Raw, want)
				}
				if got := b.Override(); got != want {
					t.Errorf("firmware will be told: got %v, want %v", got, want)
				}
				if r, err = d.BootGet(ctx); err != nil || r.Override != want {
					t.Errorf("BootGet: got %v, %v, want %v", r.Override, err, want)
				}
			}
		}
	}
	none := power.BootOverride{Device: power.DeviceNone}
	r, err := d.BootSet(ctx, none)
	must(t, "take back", err)
	if got := b.Override(); got != none || r.Override != none {
		t.Errorf("after taking back: got %v, read back %v, want none", got, r.Override)
	}
	_, err = d.BootSet(ctx, power.BootOverride{Device: "tape"})
	wantKind(t, err, power.ErrUnsupported, false)
}

func identify(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	id, err := d.Identify(ctx)
	must(t, "identify", err)
	if id.Driver == "" || id.Vendor == "" || id.Model == "" || len(id.Resets) == 0 {
		t.Errorf("identity lacks something: %+v", id)
	}
}

func wrongPassword(t *testing.T, s Suite) {
	b := s.Start(t)
	a := b.Access()
	a.Password = power.NewSecret("Wr0ng-and-secret")
	d, ctx := s.open(t, a), within(t, 20*time.Second)
	begun := time.Now()
	_, err := d.State(ctx)
	wantKind(t, err, power.ErrCredentials, false)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %s to say so", took)
	}
	if strings.Contains(err.Error(), "Wr0ng-and-secret") {
		t.Errorf("the password is in the error: %v", err)
	}
	// Asking on would lock the account: the next call does not reach the BMC.
	err = d.On(ctx)
	wantKind(t, err, power.ErrBusy, true)
	wantCounts(t, b, Counts{})
}

func silence(t *testing.T, s Suite) {
	b := s.Start(t)
	b.Set(Faults{Hang: true})
	d, ctx := s.open(t, b.Access()), within(t, 800*time.Millisecond)
	begun := time.Now()
	_, err := d.State(ctx)
	wantKind(t, err, power.ErrTimeout, true)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the call ended %s after it began, its caller's limit was 0.8 s", took)
	}
	b.Set(Faults{})
	if _, err := d.State(within(t, 20*time.Second)); err != nil {
		t.Errorf("after the BMC healed: %v", err)
	}
}

func slowOff(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	b.Set(Faults{OffDelay: 800 * time.Millisecond})
	out, err := power.EnsureOff(ctx, d, quick)
	must(t, "off", err)
	if b.Powered() || out.Took < 700*time.Millisecond {
		t.Errorf("returned before power was gone: powered %v after %s", b.Powered(), out.Took)
	}
	wantCounts(t, b, Counts{PowerOns: 1, PowerOffs: 1})
}

func powerIgnored(t *testing.T, s Suite) {
	b := s.Start(t)
	b.Set(Faults{PowerIgnored: true})
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, power.Waits{Limit: 500 * time.Millisecond})
	wantKind(t, err, power.ErrIgnored, false)
	wantCounts(t, b, Counts{})
}

func softIgnored(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	b.Set(Faults{SoftIgnored: true})
	w := quick
	w.Soft = 500 * time.Millisecond
	out, err := power.EnsureOff(ctx, d, w)
	must(t, "off", err)
	if !out.Forced || b.Powered() {
		t.Errorf("forced %v, powered %v; want the power cut", out.Forced, b.Powered())
	}
}

func softOff(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	w := quick
	w.Soft = 10 * time.Second
	out, err := power.EnsureOff(ctx, d, w)
	must(t, "off", err)
	if out.Forced || b.Powered() {
		t.Errorf("forced %v, powered %v; want a soft end", out.Forced, b.Powered())
	}
}

func bootIgnored(t *testing.T, s Suite) {
	b := s.Start(t)
	b.Set(Faults{BootDropped: true})
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	r, err := d.BootSet(ctx, power.BootOverride{Device: power.DevicePXE, Once: true, Mode: power.ModeUEFI})
	wantKind(t, err, power.ErrIgnored, false)
	if r.Override.Device != power.DeviceNone || r.Raw == "" {
		t.Errorf("evidence: got %+v, want what the BMC holds instead", r)
	}
}

func busy(t *testing.T, s Suite) {
	b := s.Start(t)
	b.Set(Faults{Busy: 2})
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on, with a BMC busy twice", err)
	wantCounts(t, b, Counts{PowerOns: 1})
}

func noSessions(t *testing.T, s Suite) {
	b := s.Start(t)
	b.Set(Faults{NoSessions: true})
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := d.State(ctx)
	if s.FallsBack {
		must(t, "state without a session", err)
		return
	}
	wantKind(t, err, power.ErrBusy, true)
}

func cancelled(t *testing.T, s Suite) {
	b := s.Start(t)
	d := s.open(t, b.Access())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.On(ctx); err == nil || power.Temporary(err) {
		t.Errorf("power on with a cancelled ctx: got %v, want an error that is not temporary", err)
	}
	if _, err := d.BootSet(ctx, power.BootOverride{Device: power.DevicePXE}); err == nil {
		t.Error("boot override with a cancelled ctx was taken")
	}
	wantCounts(t, b, Counts{})
}

func parallel(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		wg.Go(func() {
			_, err := d.State(ctx)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, "state", err)
	}
}

func closed(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	_, err := d.State(ctx)
	must(t, "state", err)
	must(t, "close", d.Close(ctx))
	must(t, "close again", d.Close(ctx))
	if err := d.On(ctx); err == nil {
		t.Error("a closed driver took an order")
	}
	wantCounts(t, b, Counts{})
}

func shared(t *testing.T, s Suite) {
	b := s.Start(t)
	o, ctx := s.opener(t), within(t, 20*time.Second)
	one, two := s.openWith(t, o, b.Access()), s.openWith(t, o, b.Access())
	_, err := one.State(ctx)
	must(t, "state", err)
	must(t, "close one", one.Close(ctx))
	_, err = two.State(ctx)
	must(t, "the other goes on", err)
}

func twice(t *testing.T, s Suite) {
	b := s.Start(t)
	d, ctx := s.open(t, b.Access()), within(t, 20*time.Second)
	must(t, "off while off", d.Off(ctx))
	_, err := power.EnsureOn(ctx, d, quick)
	must(t, "on", err)
	must(t, "on while on", d.On(ctx))
	wantCounts(t, b, Counts{PowerOns: 1})
}

func secrets(t *testing.T, s Suite) {
	b := s.Start(t)
	a := b.Access()
	pass := a.Password.Reveal()
	if pass == "" {
		t.Fatal("the simulated BMC has no password")
	}
	j, err := json.Marshal(a)
	must(t, "marshal", err)
	shown := fmt.Sprintf("%v %+v %#v %s %q %x", a, a, a, a.Password, a.Password, a.Password) + string(j)
	if strings.Contains(shown, pass) {
		t.Errorf("password shown: %s", shown)
	}
	a.URL = strings.Replace(a.URL, "://", "://user:"+pass+"@", 1)
	o := s.opener(t)
	if _, err := o.Open(t.Context(), a, nil); err == nil || strings.Contains(err.Error(), pass) {
		t.Errorf("password in the URL: got %v, want a refusal without it", err)
	}
	var e *power.Error
	if errors.As(err, &e) {
		t.Errorf("a bad address is not the BMC's error: %v", err)
	}
}
