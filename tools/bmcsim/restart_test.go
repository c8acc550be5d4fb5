package bmcsim_test

import (
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

// TestRestartBMC: the BMC restarts, forgets its sessions, and is awaited; the
// machine keeps its power and is driven as before.
func TestRestartBMC(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		scheme string
		faults fault.Faults
	}{
		"ipmi":                      {"ipmi", fault.Faults{}},
		"redfish":                   {"redfish", fault.Faults{}},
		"redfish, away for a while": {"redfish", fault.Faults{UnavailableFor: 1200 * time.Millisecond}},
		"redfish, healed by it":     {"redfish", fault.Faults{MissingUntilReset: []string{"Boot"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, tt.scheme, "", tt.faults)
			o, err := power.NewOpener(factories, power.Options{RetryPause: 50 * time.Millisecond, BreakerPause: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			d, err := o.Open(t.Context(), b.Access(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close(t.Context())
			if _, err := power.EnsureOn(t.Context(), d, power.Waits{}); err != nil {
				t.Fatal(err)
			}
			out, err := power.RestartBMC(t.Context(), d, power.Waits{Settle: 100 * time.Millisecond, Limit: 20 * time.Second})
			if err != nil || !out.Changed || out.Took < tt.faults.UnavailableFor {
				t.Fatalf("got %+v, %v", out, err)
			}
			if c := b.Counts(); !b.Powered() || c.PowerOns != 1 || c.PowerOffs+c.Resets != 0 {
				t.Errorf("powered %t, %+v: the machine felt it", b.Powered(), c)
			}
			if _, err := d.BootSet(t.Context(), power.BootOverride{Device: power.DevicePXE, Once: true, Mode: power.ModeUEFI}); err != nil {
				t.Errorf("after the restart: %v", err)
			}
		})
	}
}
