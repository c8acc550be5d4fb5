package bmcsim_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/controller/power/ipmi"
	"github.com/ingot-metal/ingot/controller/power/powertest"
	"github.com/ingot-metal/ingot/controller/power/redfish"
	"github.com/ingot-metal/ingot/tools/bmcsim"
	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

// factories are the drivers under test, as the daemon names them.
var factories = power.Factories{"redfish": redfish.New, "ipmi": ipmi.New}

// simulated joins powertest's suite with a simulated BMC.
type simulated struct {
	*bmcsim.BMC
	access power.Access
	// base are faults that this BMC always has: a vendor's manners.
	base fault.Faults
}

func (s simulated) Access() power.Access { return s.access }

func (s simulated) Powered() bool { return s.Machine().Snapshot().On }

func (s simulated) Counts() powertest.Counts {
	c := s.Machine().Snapshot().Counters
	return powertest.Counts{PowerOns: c.PowerOns, PowerOffs: c.PowerOffs, Resets: c.Resets}
}

func (s simulated) Override() power.BootOverride {
	o := s.Machine().Override()
	if !o.Valid || o.Device == machine.None {
		return power.BootOverride{Device: power.DeviceNone}
	}
	dev := map[machine.Device]power.Device{
		machine.PXE: power.DevicePXE, machine.Disk: power.DeviceDisk, machine.Setup: power.DeviceSetup,
	}[o.Device]
	mode := power.ModeUEFI
	if o.Legacy {
		mode = power.ModeBIOS
	}
	return power.BootOverride{Device: dev, Once: !o.Persistent, Mode: mode}
}

func (s simulated) Set(f powertest.Faults) {
	x := s.base
	x.IPMIHang, x.RedfishHang = f.Hang, f.Hang
	x.PowerIgnored, x.SoftIgnored = f.PowerIgnored, f.SoftIgnored
	x.IPMIBootDrops, x.PatchDrops = f.BootDropped, f.BootDropped
	x.IPMIBusy = f.Busy
	x.IPMINoSessions, x.NoSessions = f.NoSessions, f.NoSessions
	x.PowerOffDelay = f.OffDelay
	s.Faults().Set(x)
}

// start makes a BMC; scheme says how the driver is to speak to it.
func start(t *testing.T, scheme, tree string, base fault.Faults) simulated {
	t.Helper()
	b, err := bmcsim.New(bmcsim.Config{User: "operator", Password: "corr3ct-h0rse", Tree: tree})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Faults().Set(fault.Faults{})
		if err := b.Close(); err != nil {
			t.Errorf("close BMC: %v", err)
		}
	})
	b.Faults().Set(base)
	url := "ipmi://" + b.IPMIAddr()
	if scheme == "redfish" {
		url = "redfish" + b.RedfishURL()[len("https"):]
	}
	return simulated{BMC: b, base: base, access: power.Access{URL: url, User: "operator", Password: power.NewSecret("corr3ct-h0rse")}}
}

const busyElsewhere = "controller/power/redfish tests a BMC that answers 503"

func TestDriverIPMI(t *testing.T) {
	t.Parallel()
	powertest.Suite{
		Factories: factories,
		Start:     func(t *testing.T) powertest.BMC { return start(t, "ipmi", "", fault.Faults{}) },
	}.Run(t)
}

func TestDriverRedfish(t *testing.T) {
	t.Parallel()
	powertest.Suite{
		Factories: factories, FallsBack: true,
		Start:   func(t *testing.T) powertest.BMC { return start(t, "redfish", "", fault.Faults{}) },
		Without: map[string]string{"busy for a moment": busyElsewhere},
	}.Run(t)
}

// TestDriverRedfishManners runs what a vendor's manners may change.
func TestDriverRedfishManners(t *testing.T) {
	t.Parallel()
	for name, manners := range map[string]fault.Faults{
		"If-Match needed":        {NeedIfMatch: true},
		"If-Match is not atomic": {NeedIfMatch: true, StaleIfMatchAccepted: true},
		"mode must be repeated":  {BootNeedsMode: true},
		"no extra fields":        {RefuseExtra: true},
		"settings resource":      {BootViaSettings: true},
		"reset is a task":        {ResetAsTask: true, TaskTime: 50 * time.Millisecond},
		"power state lags":       {PowerStateLag: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			powertest.Suite{
				Factories: factories, FallsBack: true, Only: []string{"power path", "cycle", "boot override", "identify"},
				Start: func(t *testing.T) powertest.BMC { return start(t, "redfish", "", manners) },
			}.Run(t)
		})
	}
}

// TestDriverRedfishHidden: a path answers 404 until its parent was fetched.
func TestDriverRedfishHidden(t *testing.T) {
	t.Parallel()
	powertest.Suite{
		Factories: factories, FallsBack: true, Only: []string{"boot override", "identify", "in parallel"},
		Start: func(t *testing.T) powertest.BMC {
			return start(t, "redfish", "", fault.Faults{NotFoundUntilParent: true})
		},
	}.Run(t)
}

// TestDriverRedfishAfterReset: 503 for a while after a reset is temporary, and
// the machine's power can still be waited for.
func TestDriverRedfishAfterReset(t *testing.T) {
	t.Parallel()
	b := start(t, "redfish", "", fault.Faults{UnavailableFor: 1200 * time.Millisecond})
	o, err := power.NewOpener(factories, power.Options{})
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
	if err := d.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := power.EnsureOff(t.Context(), d, power.Waits{Limit: 10 * time.Second}); err != nil {
		if !power.Temporary(err) {
			t.Fatalf("got %v, want a temporary error", err)
		}
		if _, err := power.EnsureOff(t.Context(), d, power.Waits{Limit: 10 * time.Second}); err != nil {
			t.Fatalf("second try: %v", err)
		}
	}
	if b.Powered() {
		t.Error("machine is still on")
	}
}

// TestDriverRedfishHostile: answers that must end in a named error, quickly.
func TestDriverRedfishHostile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults fault.Faults
		want   power.Kind
	}{
		"giant answer":   {fault.Faults{GiantAnswer: 64 << 20}, power.ErrProtocol},
		"byte by byte":   {fault.Faults{ByteInterval: 50 * time.Millisecond}, power.ErrTimeout},
		"elsewhere":      {fault.Faults{RedirectTo: "https://127.0.0.1:1"}, power.ErrProtocol},
		"no such system": {fault.Faults{}, power.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, "redfish", "", c.faults)
			a := b.Access()
			if name == "no such system" {
				a.URL += "?system=nobody"
			}
			o, err := power.NewOpener(factories, power.Options{CallTimeout: time.Second, LeaseMargin: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			d, err := o.Open(t.Context(), a, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close(t.Context())
			if _, err := d.State(t.Context()); power.KindOf(err) != c.want {
				t.Errorf("got %v, want kind %q", err, c.want)
			} else {
				t.Log(err)
			}
		})
	}
}

// TestDriverRedfishVendors runs the suite on the trees of real machines.
func TestDriverRedfishVendors(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"Dell R750": "dell-poweredge-r750.tar.gz", "HPE DL325": "hpe-dl325-gen10plus.tar.gz"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, err := filepath.Abs(filepath.Join("../../../shared/redfish-trees", file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(tree); err != nil {
				t.Logf("NOT TESTED: the tree of a %s is missing here: %v", name, err)
				return
			}
			powertest.Suite{
				Factories: factories, FallsBack: true,
				Start:   func(t *testing.T) powertest.BMC { return start(t, "redfish", tree, fault.Faults{}) },
				Without: map[string]string{"busy for a moment": busyElsewhere},
			}.Run(t)
		})
	}
}

// TestDriverIPMIFlagsOutliveAMinute: the driver asks the BMC not to forget its
// boot flags after 60 seconds without a chassis command.
func TestDriverIPMIFlagsOutliveAMinute(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	m, err := machine.New(machine.Config{
		Hardware: new(machine.Pretend),
		Now:      func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bmcsim.New(bmcsim.Config{Machine: m, User: "operator", Password: "corr3ct-h0rse", RedfishAddr: "off"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o, err := power.NewOpener(factories, power.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := o.Open(t.Context(), power.Access{URL: "ipmi://" + b.IPMIAddr(), User: "operator", Password: power.NewSecret("corr3ct-h0rse")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	r, err := d.BootSet(t.Context(), power.BootOverride{Device: power.DevicePXE, Once: true, Mode: power.ModeUEFI})
	if err != nil || r.Warning != "" {
		t.Fatalf("got %+v, %v", r, err)
	}
	later.Store(int64(5 * time.Minute))
	if got := m.Override(); !got.Valid {
		t.Errorf("five minutes later: got %v, want pxe once uefi", got)
	}
}
