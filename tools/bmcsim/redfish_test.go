package bmcsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
)

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
