package bmcsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// call does one Redfish request with basic authentication.
func call(t *testing.T, b *BMC, method, path string, body any, header ...string) (int, http.Header, map[string]any) {
	t.Helper()
	status, h, raw, err := callRaw(t.Context(), b, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	_ = json.Unmarshal(raw, &o)
	return status, h, o
}

func callRaw(ctx context.Context, b *BMC, method, path string, body any, header ...string) (int, http.Header, []byte, error) {
	var r io.Reader
	if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			return 0, nil, nil, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.RedfishURL()+path, r)
	if err != nil {
		return 0, nil, nil, err
	}
	if len(header) == 0 || header[0] != "X-Auth-Token" {
		req.SetBasicAuth("admin", "secret")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, resp.Header, raw, err
}

const sys = "/redfish/v1/Systems/1"

type m = map[string]any

func TestRedfishSessions(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	const path = "/redfish/v1/SessionService/Sessions"
	if status, _, _ := call(t, b, "POST", path, m{"UserName": "admin", "Password": "wrong"}); status != 401 {
		t.Errorf("wrong password: %d, want 401", status)
	}
	if status, _, _ := call(t, b, "GET", sys, nil, "X-Auth-Token", "stolen"); status != 401 {
		t.Errorf("unknown token: %d, want 401", status)
	}
	status, h, _ := call(t, b, "POST", path, m{"UserName": "admin", "Password": "secret"})
	token, where := h.Get("X-Auth-Token"), h.Get("Location")
	if status != 201 || token == "" || where == "" {
		t.Fatalf("login: %d, token %q, location %q", status, token, where)
	}
	if status, _, _ := call(t, b, "GET", sys, nil, "X-Auth-Token", token); status != 200 {
		t.Errorf("with token: %d, want 200", status)
	}
	for range 7 {
		call(t, b, "POST", path, m{"UserName": "admin", "Password": "secret"})
	}
	if status, _, _ := call(t, b, "POST", path, m{"UserName": "admin", "Password": "secret"}); status != 503 {
		t.Errorf("ninth session: %d, want 503", status)
	}
	if status, _, _ := call(t, b, "DELETE", where, nil, "X-Auth-Token", token); status != 204 {
		t.Errorf("logout: %d, want 204", status)
	}
	if status, _, _ := call(t, b, "GET", sys, nil, "X-Auth-Token", token); status != 401 {
		t.Errorf("after logout: %d, want 401", status)
	}
}

func TestRedfishFaults(t *testing.T) {
	t.Parallel()
	override := m{"Boot": m{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}}
	withMode := m{"Boot": m{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}}
	extra := m{"AssetTag": "x", "Boot": override["Boot"]}
	for name, c := range map[string]struct {
		f      fault.Faults
		path   string
		body   m
		header []string
		want   int
		stored bool
	}{
		"healthy":                {fault.Faults{}, sys, override, nil, 200, true},
		"unknown target":         {fault.Faults{}, sys, m{"Boot": m{"BootSourceOverrideTarget": "Moon"}}, nil, 400, false},
		"drops":                  {fault.Faults{PatchDrops: true}, sys, override, nil, 200, false},
		"mode missing":           {fault.Faults{BootNeedsMode: true}, sys, override, nil, 400, false},
		"mode given":             {fault.Faults{BootNeedsMode: true}, sys, withMode, nil, 200, true},
		"extra field":            {fault.Faults{RefuseExtra: true}, sys, extra, nil, 400, false},
		"not by settings":        {fault.Faults{BootViaSettings: true}, sys, override, nil, 400, false},
		"by settings":            {fault.Faults{BootViaSettings: true}, sys + "/Settings", override, nil, 200, true},
		"no settings there":      {fault.Faults{}, sys + "/Settings", override, nil, 404, false},
		"If-Match demanded":      {fault.Faults{NeedIfMatch: true}, sys, override, nil, 428, false},
		"If-Match wrong":         {fault.Faults{}, sys, override, []string{"If-Match", `W/"old"`}, 412, false},
		"If-Match not looked at": {fault.Faults{StaleIfMatchAccepted: true}, sys, override, []string{"If-Match", `W/"old"`}, 200, true},
		"hidden path":            {fault.Faults{NotFoundUntilParent: true}, sys, override, nil, 404, false},
		"redirect":               {fault.Faults{RedirectTo: "https://192.0.2.1"}, sys, override, nil, 307, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			b.Faults().Set(c.f)
			if got, _, body := call(t, b, "PATCH", c.path, c.body, c.header...); got != c.want {
				t.Errorf("status %d, want %d: %v", got, c.want, body)
			}
			if got := b.Machine().Override(); got.Valid != c.stored {
				t.Errorf("override %+v, want stored %v", got, c.stored)
			}
		})
	}
}

func TestRedfishETag(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	_, h, _ := call(t, b, "GET", sys, nil)
	tag := h.Get("ETag")
	if status, _, _ := call(t, b, "GET", sys, nil, "If-None-Match", tag); status != 304 {
		t.Errorf("unchanged: %d, want 304", status)
	}
	status, h2, body := call(t, b, "PATCH", sys, m{"AssetTag": "rack 7"}, "If-Match", tag)
	if status != 200 || body["AssetTag"] != "rack 7" || h2.Get("ETag") == tag {
		t.Errorf("patch with the right tag: %d, %v, tag %s after %s", status, body["AssetTag"], h2.Get("ETag"), tag)
	}
	if status, _, _ := call(t, b, "PATCH", sys, m{"AssetTag": "rack 8"}, "If-Match", tag); status != 412 {
		t.Errorf("patch with the old tag: %d, want 412", status)
	}
}

func TestRedfishReset(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	reset := func(kind string) int {
		t.Helper()
		status, _, _ := call(t, b, "POST", sys+"/Actions/ComputerSystem.Reset", m{"ResetType": kind})
		return status
	}
	if got := reset("Explode"); got != 400 {
		t.Errorf("unknown reset type: %d, want 400", got)
	}
	if got := reset("ForceRestart"); got != 409 {
		t.Errorf("restart while off: %d, want 409", got)
	}
	b.Faults().Set(fault.Faults{ResetAsTask: true})
	status, h, _ := call(t, b, "POST", sys+"/Actions/ComputerSystem.Reset", m{"ResetType": "On"})
	if status != 202 {
		t.Fatalf("reset as a task: %d, want 202", status)
	}
	if status, _, _ := call(t, b, "GET", h.Get("Location"), nil); status != 204 {
		t.Errorf("finished task's monitor: %d, want 204", status)
	}
	until(t, b, on)
	b.Faults().Set(fault.Faults{UnavailableFor: time.Minute, MissingUntilReset: []string{"PowerState"}})
	if _, _, body := call(t, b, "GET", sys, nil); body["PowerState"] != nil {
		t.Error("PowerState is there before the manager's reset")
	}
	if status, _, _ := call(t, b, "POST", "/redfish/v1/Managers/1/Actions/Manager.Reset", m{"ResetType": "ForceRestart"}); status != 204 {
		t.Errorf("manager reset: %d, want 204", status)
	}
	if status, _, _ := call(t, b, "GET", sys, nil); status != 503 {
		t.Errorf("while the manager starts: %d, want 503", status)
	}
}

func TestRedfishSlowAndGiant(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	b.Faults().Set(fault.Faults{GiantAnswer: 5 << 20})
	if _, _, raw, err := callRaw(t.Context(), b, "GET", sys, nil); err != nil || len(raw) < 5<<20 || !json.Valid(raw) {
		t.Errorf("giant answer: %d bytes, %v", len(raw), err)
	}
	for _, f := range []fault.Faults{{RedfishHang: true}, {ByteInterval: time.Hour}} {
		b.Faults().Set(f)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, _, _, err := callRaw(ctx, b, "GET", sys, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v: %v, want a deadline", f, err)
		}
	}
}

func TestRedfishHostileInput(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for _, body := range []any{[]int{1}, "text", nil, strings.Repeat("x", 2<<20)} {
		if status, _, _ := call(t, b, "PATCH", sys, body); status != 400 {
			t.Errorf("PATCH with %.20v: %d, want 400", body, status)
		}
	}
	for _, path := range []string{"/", "/etc/passwd", "/redfish/v1/../../etc/passwd", "/redfish/v1/Systems/1/EthernetInterfaces/9"} {
		if status, _, _ := call(t, b, "GET", path, nil); status >= 500 || status == 200 {
			t.Errorf("GET %s: %d", path, status)
		}
	}
}
