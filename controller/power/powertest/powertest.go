// Package powertest is the suite that every power driver passes against a
// simulator which speaks the driver's protocol: it checks the contract of
// power.Driver by what the simulated machine really did.
package powertest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

// Faults are what the suite asks a simulated BMC to do wrong. The zero value
// heals it.
type Faults struct {
	Hang         bool          // takes requests and never answers
	PowerIgnored bool          // says yes to power orders and does nothing
	SoftIgnored  bool          // the system does not react to its button
	BootDropped  bool          // says yes to boot overrides and stores nothing
	Busy         int           // so many next requests are answered with "busy"
	NoSessions   bool          // no session is free
	OffDelay     time.Duration // power-off takes so long
}

// Counts are what the machine really did since it was made.
type Counts struct{ PowerOns, PowerOffs, Resets int }

// BMC is a simulated BMC with a machine, which starts switched off.
type BMC interface {
	// Access is how to reach it; the password is right.
	Access() power.Access
	// Powered is the true power state, whatever the BMC says.
	Powered() bool
	Counts() Counts
	// Override is what the firmware will be told at the next start.
	Override() power.BootOverride
	Set(Faults)
}

// Suite says what to run.
type Suite struct {
	Factories power.Factories
	// Start makes a fresh BMC that ends with the test.
	Start func(t *testing.T) BMC
	// FallsBack is set where a driver works without sessions, as Redfish
	// drivers do by basic authentication.
	FallsBack bool
	// Modes are the boot modes that the BMC can store; nil means both.
	Modes []power.Mode
	// Only names the tests to run; nil means all.
	Only []string
	// Without names tests that this simulator cannot stage, with the place
	// where the same is tested instead; it is printed.
	Without map[string]string
}

// Run runs all tests of the suite, in parallel.
func (s Suite) Run(t *testing.T) {
	for name, test := range map[string]func(*testing.T, Suite){
		"power path":              powerPath,
		"cycle":                   cycle,
		"reset":                   reset,
		"boot override":           bootOverride,
		"identify":                identify,
		"wrong password":          wrongPassword,
		"silence":                 silence,
		"slow power-off":          slowOff,
		"power order ignored":     powerIgnored,
		"soft off ignored":        softIgnored,
		"soft off":                softOff,
		"boot override ignored":   bootIgnored,
		"busy for a moment":       busy,
		"no session free":         noSessions,
		"cancelled beforehand":    cancelled,
		"in parallel":             parallel,
		"closed":                  closed,
		"shared by two":           shared,
		"orders twice in a row":   twice,
		"secrets stay in the box": secrets,
	} {
		if s.Only != nil && !slices.Contains(s.Only, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if why, ok := s.Without[name]; ok {
				t.Logf("not run here: %s", why)
				return
			}
			test(t, s)
		})
	}
}

// open gives a driver with all its wrappers, tuned to be quick.
func (s Suite) open(t *testing.T, a power.Access) power.Driver {
	t.Helper()
	return s.openWith(t, s.opener(t), a)
}

func (s Suite) opener(t *testing.T) *power.Opener {
	t.Helper()
	o, err := power.NewOpener(s.Factories, power.Options{PerSecond: 1000, Burst: 100, RetryPause: 50 * time.Millisecond,
		LeaseMargin: 50 * time.Millisecond, BreakerPause: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (s Suite) openWith(t *testing.T, o *power.Opener, a power.Access) power.Driver {
	t.Helper()
	d, err := o.Open(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = d.Close(ctx) // the BMC may be hanging: that is tested elsewhere
	})
	return d
}

// within bounds a test's calls.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// must stops the test at an unexpected error.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// wantKind checks kind and temporariness of an error.
func wantKind(t *testing.T, err error, want power.Kind, temporary bool) {
	t.Helper()
	if got := power.KindOf(err); got != want {
		t.Fatalf("got %v (kind %q), want kind %q", err, got, want)
	}
	if got := power.Temporary(err); got != temporary {
		t.Errorf("%v: got temporary %v, want %v", err, got, temporary)
	}
}

// quick are waits for machines that switch in milliseconds.
var quick = power.Waits{Limit: 5 * time.Second, Settle: 50 * time.Millisecond}
