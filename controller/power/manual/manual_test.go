package manual

import (
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/controller/power"
)

func TestManual(t *testing.T) {
	t.Parallel()
	o, err := power.NewOpener(power.Factories{"manual": New}, power.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := o.Open(t.Context(), power.Access{URL: "manual:"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.State(t.Context()); err != nil || s != power.StateUnknown {
		t.Errorf("state: got %v, %v, want unknown", s, err)
	}
	_, err = power.EnsureOn(t.Context(), d, power.Waits{})
	if power.KindOf(err) != power.ErrUnsupported || !strings.Contains(err.Error(), "press the machine's power button") {
		t.Errorf("on: got %v, want what to press", err)
	}
	_, err = d.BootSet(t.Context(), power.BootOverride{Device: power.DevicePXE})
	if power.KindOf(err) != power.ErrUnsupported || !strings.Contains(err.Error(), "network boot") {
		t.Errorf("boot: got %v, want what to choose", err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
