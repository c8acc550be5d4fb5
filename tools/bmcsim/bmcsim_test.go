package bmcsim

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

func start(t *testing.T, edit func(*Config)) *BMC {
	t.Helper()
	cfg := Config{User: "admin", Password: "secret", Identity: Identity{
		Serial: "SN1", UUID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"),
		MACs: []net.HardwareAddr{{0x52, 0x54, 0, 1, 2, 3}},
	}}
	if edit != nil {
		edit(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func until(t *testing.T, b *BMC, ok func(machine.Snapshot) bool) machine.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := b.Machine().Wait(ctx, ok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func on(s machine.Snapshot) bool  { return s.On }
func off(s machine.Snapshot) bool { return !s.On }

// tool runs a program of Debian's; the package is named when it is missing.
func tool(t *testing.T, pkg, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%v: install Debian's package %s", err, pkg)
	}
	c := exec.CommandContext(t.Context(), name, args...)
	for _, e := range os.Environ() {
		// These make Python verify certificates although it was told not to.
		if !strings.HasPrefix(e, "REQUESTS_CA_BUNDLE=") && !strings.HasPrefix(e, "CURL_CA_BUNDLE=") {
			c.Env = append(c.Env, e)
		}
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

func ipmitool(t *testing.T, b *BMC, suite string, args ...string) (string, error) {
	t.Helper()
	host, port, _ := net.SplitHostPort(b.IPMIAddr())
	return tool(t, "ipmitool", "ipmitool", append([]string{"-I", "lanplus", "-C", suite, "-H", host, "-p", port,
		"-U", "admin", "-P", "secret", "-N", "1", "-R", "2"}, args...)...)
}

func TestIPMItool(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"3", "17"} {
		t.Run("suite "+suite, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			must := func(want string, args ...string) {
				t.Helper()
				out, err := ipmitool(t, b, suite, args...)
				if err != nil || !strings.Contains(out, want) {
					t.Fatalf("ipmitool %v: %v\n%s\nwant %q in it", args, err, out, want)
				}
			}
			must("is off", "power", "status")
			must("Up/On", "power", "on")
			until(t, b, on)
			must("is on", "power", "status")
			must("pxe", "chassis", "bootdev", "pxe", "options=efiboot")
			must("Force PXE", "chassis", "bootparam", "get", "5")
			must("BIOS EFI boot", "chassis", "bootparam", "get", "5")
			must("Reset", "power", "reset")
			until(t, b, func(s machine.Snapshot) bool { return s.Counters.Resets == 1 })
			must("Boot Flag Invalid", "chassis", "bootparam", "get", "5")
			must("Soft", "power", "soft")
			until(t, b, off)
			must("IPMI Version              : 2.0", "mc", "info")
			must("00112233-4455-6677-8899-aabbccddeeff", "mc", "guid", "ipmi")
			must("SN1", "fru", "print", "0")
			must("127.0.0.1", "lan", "print", "1")
			must("cold reset", "mc", "reset", "cold")
			if out, err := ipmitool(t, b, suite, "power", "reset"); err == nil {
				t.Errorf("reset while off was taken: %s", out)
			}
			want := machine.Boot{Device: machine.PXE}
			if got := b.Pretend().Boots(); len(got) != 2 || got[1] != want {
				t.Errorf("boots %+v, want the second to be %+v", got, want)
			}
			if got := b.Machine().Snapshot().Counters; got.PowerOns != 1 || got.PowerOffs != 1 {
				t.Errorf("counters %+v: a BMC reset must not touch the machine", got)
			}
		})
	}
}

func TestIPMIRefusals(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	host, port, _ := net.SplitHostPort(b.IPMIAddr())
	for name, cred := range map[string][]string{"wrong password": {"-U", "admin", "-P", "wrong"}, "null user": {"-U", "", "-P", ""}} {
		args := append([]string{"-I", "lanplus", "-C", "3", "-H", host, "-p", port, "-N", "1", "-R", "1"}, cred...)
		if out, err := tool(t, "ipmitool", "ipmitool", append(args, "power", "on")...); err == nil {
			t.Errorf("%s got in: %s", name, out)
		}
	}
	b.Faults().Set(fault.Faults{IPMINoSessions: true})
	if out, err := ipmitool(t, b, "3", "power", "on"); err == nil || !strings.Contains(out, "insufficient resources") {
		t.Errorf("without free sessions: %v\n%s", err, out)
	}
	b.Faults().Set(fault.Faults{UnavailableFor: time.Hour})
	if _, err := ipmitool(t, b, "3", "mc", "reset", "cold"); err != nil {
		t.Errorf("BMC reset: %v", err)
	}
	if out, err := ipmitool(t, b, "3", "power", "status"); err == nil {
		t.Errorf("a BMC that restarts answered: %s", out)
	}
	b = start(t, nil)
	b.Faults().Set(fault.Faults{IPMIBootDrops: true})
	_, _ = ipmitool(t, b, "3", "chassis", "bootdev", "pxe")
	b.Faults().Set(fault.Faults{})
	if b.Machine().Override().Valid {
		t.Error("a BMC that drops boot flags stored them")
	}
	if got := b.Machine().Snapshot().Counters.Requests; got != 0 {
		t.Errorf("%d requests were taken, want none", got)
	}
}

// trees are the Redfish trees to test: ours, and those of vendors that lie
// beside the checkout.
func trees(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"built-in": ""}
	const dir = "../../../shared/redfish-trees"
	for _, name := range []string{"dell-poweredge-r750", "hpe-dl325-gen10plus"} {
		file := filepath.Join(dir, name+".tar.gz")
		if _, err := os.Stat(file); err != nil {
			fmt.Fprintf(os.Stderr, "NOT RUN: Redfish tree %s is not at %s\n", name, file)
			continue
		}
		all[name] = file
	}
	return all
}

func TestRedfishtool(t *testing.T) {
	t.Parallel()
	for name, tree := range trees(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *Config) { c.Tree = tree })
			must := func(want string, args ...string) {
				t.Helper()
				args = append([]string{"-r", strings.TrimPrefix(b.RedfishURL(), "https://"), "-u", "admin", "-p", "secret", "-S", "Always", "-A", "Session"}, args...)
				out, err := tool(t, "redfishtool", "redfishtool", args...)
				if err != nil || !strings.Contains(out, want) {
					t.Fatalf("redfishtool %v: %v\n%s\nwant %q in it", args, err, out, want)
				}
			}
			must(`"PowerState": "Off"`, "Systems", "-1", "-P", "PowerState", "get")
			must(`"BootSourceOverrideEnabled": "Once"`, "Systems", "-1", "setBootOverride", "Once", "Pxe", "UEFI")
			must("", "Systems", "-1", "reset", "On")
			until(t, b, on)
			must(`"PowerState": "On"`, "Systems", "-1", "-P", "PowerState", "get")
			must("52:54:00:01:02:03", "Systems", "-1", "EthernetInterfaces", "-i", "1")
			must("", "Systems", "-1", "reset", "ForceOff")
			until(t, b, off)
			if got, want := b.Pretend().Boots()[0], (machine.Boot{Device: machine.PXE}); got != want {
				t.Errorf("boot %+v, want %+v", got, want)
			}
		})
	}
}

func TestSushy(t *testing.T) {
	t.Parallel()
	for name, tree := range trees(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *Config) { c.Tree = tree })
			out, err := tool(t, "python3-sushy", "/usr/bin/python3", "testdata/sushy_drive.py", b.RedfishURL())
			if err != nil || strings.TrimSpace(out) != "content" {
				t.Fatalf("sushy: %v\n%s", err, out)
			}
			if got := b.Machine().Snapshot().Counters; got.PowerOns != 2 || got.PowerOffs != 2 {
				t.Errorf("counters %+v, want two power-ons and offs", got)
			}
		})
	}
}
