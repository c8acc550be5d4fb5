package power

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a driver whose calls answer from functions; nothing here
// pretends to be a BMC, it only lets the wrappers be watched.
type scripted struct {
	Driver
	state func(context.Context) (State, error)
	on    func(context.Context) error
	off   func(context.Context) error
	soft  func(context.Context) error
	reset func(context.Context) error
}

func (s *scripted) State(ctx context.Context) (State, error) { return s.state(ctx) }
func (s *scripted) On(ctx context.Context) error             { return s.on(ctx) }
func (s *scripted) Off(ctx context.Context) error            { return s.off(ctx) }
func (s *scripted) SoftOff(ctx context.Context) error        { return s.soft(ctx) }
func (s *scripted) Reset(ctx context.Context) error          { return s.reset(ctx) }
func (s *scripted) Close(context.Context) error              { return nil }

func open(t *testing.T, s *scripted, o Options, log *slog.Logger) Driver {
	t.Helper()
	op, err := NewOpener(Factories{"x": func(Target) (Driver, error) { return s, nil }}, o)
	if err != nil {
		t.Fatal(err)
	}
	d, err := op.Open(t.Context(), Access{URL: "x://bmc", User: "u", Password: NewSecret("hidden")}, log)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fail(k Kind) error { return &Error{Kind: k, BMC: "x://bmc", Asked: "test"} }

func TestRetry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		call  func(Driver) error
		tries int
	}{
		"busy state":       {fail(ErrBusy), func(d Driver) error { _, err := d.State(context.Background()); return err }, 3},
		"silent state":     {fail(ErrTimeout), func(d Driver) error { _, err := d.State(context.Background()); return err }, 2},
		"busy reset":       {fail(ErrBusy), func(d Driver) error { return d.Reset(context.Background()) }, 3},
		"silent reset":     {fail(ErrTimeout), func(d Driver) error { return d.Reset(context.Background()) }, 1},
		"silent soft off":  {fail(ErrTimeout), func(d Driver) error { return d.SoftOff(context.Background()) }, 1},
		"bad password":     {fail(ErrCredentials), func(d Driver) error { return d.On(context.Background()) }, 1},
		"wants an hour":    {&Error{Kind: ErrBusy, RetryAfter: time.Hour}, func(d Driver) error { return d.On(context.Background()) }, 1},
		"something unsaid": {errors.New("odd"), func(d Driver) error { return d.On(context.Background()) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				f := func(context.Context) error { n++; return c.err }
				d := open(t, &scripted{state: func(ctx context.Context) (State, error) { return 0, f(ctx) }, on: f, soft: f, reset: f}, Options{}, nil)
				if err := c.call(d); KindOf(err) == "" {
					t.Errorf("got %v, want an error of ours", err)
				}
				if n != c.tries {
					t.Errorf("tries: got %d, want %d", n, c.tries)
				}
			})
		})
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := 0, fail(ErrUnreachable)
		d := open(t, &scripted{on: func(context.Context) error { n++; return err }}, Options{Tries: 1, BreakerAfter: 2, BreakerPause: time.Minute}, nil)
		for i, want := range []struct {
			kind  Kind
			calls int
			wait  time.Duration
		}{
			{ErrUnreachable, 1, 0}, {ErrUnreachable, 2, 0}, {ErrBusy, 2, 30 * time.Second}, {ErrBusy, 2, 31 * time.Second},
			{ErrUnreachable, 3, 0}, {ErrBusy, 3, 2 * time.Minute},
		} {
			got := d.On(t.Context())
			if KindOf(got) != want.kind || n != want.calls {
				t.Errorf("call %d: got %v after %d calls, want %q after %d", i, got, n, want.kind, want.calls)
			}
			var e *Error
			if errors.As(got, &e) && e.Kind == ErrBusy && e.RetryAfter <= 0 {
				t.Errorf("call %d: an open breaker does not say until when", i)
			}
			time.Sleep(want.wait)
		}
		err = nil
		for range 3 {
			if got := d.On(t.Context()); got != nil {
				t.Errorf("healed: got %v", got)
			}
		}
	})
}

// A BMC that refused one password is asked at once with another; the one that
// it refused is not tried again, since BMCs lock accounts.
func TestBreakerKnowsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		opener, err := NewOpener(Factories{"x": func(target Target) (Driver, error) {
			password := target.Password.Reveal()
			return &scripted{on: func(context.Context) error {
				asked[password]++
				if password == "wrong" {
					return fail(ErrCredentials)
				}
				return nil
			}}, nil
		}}, Options{Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		on := func(password string) error {
			d, err := opener.Open(t.Context(), Access{URL: "x://bmc", User: "u", Password: NewSecret(password)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close(t.Context())
			return d.On(t.Context())
		}
		for i, want := range []struct {
			password string
			kind     Kind
		}{{"wrong", ErrCredentials}, {"wrong", ErrBusy}, {"right", ""}, {"wrong", ErrCredentials}} {
			if got := KindOf(on(want.password)); got != want.kind {
				t.Errorf("call %d with the %s password: got %q, want %q", i, want.password, got, want.kind)
			}
		}
		if asked["wrong"] != 2 || asked["right"] != 1 {
			t.Errorf("the BMC was asked %v, want twice wrong and once right", asked)
		}
	})
}

func TestCallEndsBeforeTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, &scripted{on: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			Options{LeaseMargin: time.Second}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		err := d.On(ctx)
		if KindOf(err) != ErrTimeout || time.Since(begun) != 9*time.Second {
			t.Errorf("got %v after %s, want a timeout after 9s", err, time.Since(begun))
		}
		if err := d.On(ctx); KindOf(err) != ErrBusy {
			t.Errorf("with a second left: got %v, want not begun", err)
		}
	})
}

func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, most := 0, 0
		d := open(t, &scripted{on: func(context.Context) error {
			inside++ // unguarded on purpose: the race detector watches
			most = max(most, inside)
			time.Sleep(time.Second)
			inside--
			return nil
		}}, Options{}, nil)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := d.On(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 1 {
			t.Errorf("calls at once: got %d, want 1", most)
		}
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, &scripted{on: func(context.Context) error { return nil }}, Options{PerSecond: 2, Burst: 1}, nil)
		begun := time.Now()
		for range 5 {
			if err := d.On(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(begun); got != 2*time.Second {
			t.Errorf("5 calls at 2 a second: got %s, want 2s", got)
		}
	})
}

func TestEnsureLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offAt time.Time
		slow := 100 * time.Second
		s := &scripted{
			state: func(context.Context) (State, error) {
				if !offAt.IsZero() && time.Since(offAt) > slow {
					return StateOff, nil
				}
				return StateOn, nil
			},
			off: func(context.Context) error { offAt = time.Now(); return nil },
		}
		d := open(t, s, Options{}, nil)
		if _, err := EnsureOff(t.Context(), d, Waits{Limit: 50 * time.Second}); KindOf(err) != ErrIgnored {
			t.Errorf("slower than the limit: got %v, want ignored", err)
		}
		offAt, slow = time.Time{}, 45*time.Second
		if _, err := EnsureOff(t.Context(), d, Waits{Limit: 50 * time.Second}); err != nil {
			t.Errorf("within the limit: %v", err)
		}
		offAt, slow = time.Time{}, 100*time.Second
		if _, err := EnsureOff(t.Context(), d, Waits{Limit: 50 * time.Second}); err != nil {
			t.Errorf("within three times what was learned: %v", err)
		}
	})
}

func TestEnsureOnBearsSilenceWhileSwitching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ordered := 0, 0
		s := &scripted{
			state: func(context.Context) (State, error) {
				switch n++; {
				case n == 1:
					return StateOff, nil
				case n < 8:
					return StateUnknown, fail(ErrTimeout)
				}
				return StateOn, nil
			},
			on: func(context.Context) error { ordered++; return nil },
		}
		out, err := EnsureOn(t.Context(), open(t, s, Options{BreakerAfter: 100}, nil), Waits{})
		if err != nil || !out.Changed || ordered != 1 {
			t.Errorf("got %+v, %v, %d orders; want one", out, err, ordered)
		}
	})
}

func TestSoftOffThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := StateOn
		s := &scripted{
			state: func(context.Context) (State, error) { return state, nil },
			soft:  func(context.Context) error { return fail(ErrUnsupported) },
			off:   func(context.Context) error { state = StateOff; return nil },
		}
		out, err := EnsureOff(t.Context(), open(t, s, Options{}, nil), Waits{Soft: time.Minute})
		if err != nil || !out.Forced {
			t.Errorf("got %+v, %v, want the power cut", out, err)
		}
	})
}

func TestLogHasNoSecret(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d := open(t, &scripted{on: func(context.Context) error { return fail(ErrUnsupported) }}, Options{}, log)
	_ = d.On(t.Context()) // its error is what is logged
	log.Info("access", "access", Access{Password: NewSecret("hidden")}, "password", NewSecret("hidden"))
	if got := b.String(); strings.Contains(got, "hidden") || !strings.Contains(got, `"bmc_addr":"x://bmc"`) || !strings.Contains(got, "power on") {
		t.Errorf("log: %s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	o, err := NewOpener(Factories{"x": nil, "y": func(Target) (Driver, error) { return &scripted{}, nil }}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    Access
		want string
	}{
		{Access{URL: "z://h"}, "use one of"},
		{Access{URL: "y://u:p4ss@h"}, "own fields"},
		{Access{URL: "y://h\n"}, "not a URL"},
		{Access{URL: "y://h", CertificateSHA256: "abc"}, "64 hex digits"},
		{Access{URL: "y://h", CertificateSHA256: strings.Repeat("AB:", 31) + "AB"}, ""},
	} {
		_, err := o.Open(t.Context(), c.a, nil)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "p4ss")) {
			t.Errorf("%q: got %v, want %q", c.a.URL, err, c.want)
		}
	}
}

func TestQuirks(t *testing.T) {
	t.Parallel()
	q, err := BuiltinQuirks()
	if err != nil {
		t.Fatal(err)
	}
	names, flags := q.Match("SUPERMICRO", "SYS-1", "")
	if len(names) != 1 || !flags.RepeatMode {
		t.Errorf("Supermicro: got %v, %+v", names, flags)
	}
	if names, flags = q.Match("Acme", "", ""); names != nil || flags != (Flags{}) {
		t.Errorf("unknown vendor: got %v, %+v", names, flags)
	}
	for _, bad := range []string{"- {name: a, vendor: b, typo: true}", "- {name: a}", "x", "- {name: a, vendor: b, settle: soon}"} {
		if _, err := ParseQuirks([]byte(bad)); err == nil {
			t.Errorf("%s: taken", bad)
		}
	}
}

func TestOverride(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]BootOverride{
		"none": {}, "pxe once uefi": {DevicePXE, true, ModeUEFI}, "disk persistent": {DeviceDisk, false, ModeAny},
	} {
		if got := o.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if (BootOverride{Device: DeviceHTTP, Mode: ModeBIOS}).Validate() == nil {
		t.Error("HTTP boot by BIOS was taken")
	}
}
