package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/operator"
)

func TestMachineAddRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(1)
	mac := []string{"52:54:00:00:01:01"}
	for _, tc := range []struct {
		name  string
		r     *operator.MachineAddRequest
		code  codes.Code
		words []string
	}{
		{"nothing", &operator.MachineAddRequest{}, codes.InvalidArgument, []string{"MAC"}},
		{"newline", &operator.MachineAddRequest{Hostname: "a\nb", Macs: mac}, codes.InvalidArgument, []string{"RFC 1123"}},
		{"dots", &operator.MachineAddRequest{Hostname: "a.b", Macs: mac}, codes.InvalidArgument, []string{"RFC 1123"}},
		{"no MAC", &operator.MachineAddRequest{Macs: []string{"52:54"}}, codes.InvalidArgument, []string{"52:54"}},
		{"multicast MAC", &operator.MachineAddRequest{Macs: []string{"01:00:5e:00:00:01"}}, codes.InvalidArgument, []string{"MAC"}},
		{"all zeros", &operator.MachineAddRequest{Macs: []string{"00:00:00:00:00:00"}}, codes.InvalidArgument, []string{"MAC"}},
		{"many MACs", &operator.MachineAddRequest{Macs: make([]string, 65)}, codes.InvalidArgument, []string{"64"}},
		{"MAC again", &operator.MachineAddRequest{Macs: []string{"52:54:00:00:00:01"}}, codes.AlreadyExists, []string{"52:54:00:00:00:01"}},
		{"UUID", &operator.MachineAddRequest{SystemUuid: "xyz"}, codes.InvalidArgument, []string{"UUID"}},
		{"architecture", &operator.MachineAddRequest{Macs: mac, Architecture: "vax"}, codes.InvalidArgument, []string{"amd64"}},
		{"BMC scheme", &operator.MachineAddRequest{Macs: mac, Bmc: &operator.BMCAccess{Url: "http://x"}}, codes.InvalidArgument, []string{"redfish"}},
		{"BMC user in URL", &operator.MachineAddRequest{Macs: mac, Bmc: &operator.BMCAccess{Url: "ipmi://a:b@x"}}, codes.InvalidArgument, []string{"own fields"}},
		{"BMC no host", &operator.MachineAddRequest{Macs: mac, Bmc: &operator.BMCAccess{Url: "ipmi://"}}, codes.InvalidArgument, []string{"HOST"}},
		{"BMC pin", &operator.MachineAddRequest{Macs: mac, Bmc: &operator.BMCAccess{Url: "redfish://x", CertificateSha256: "ab"}}, codes.InvalidArgument, []string{"64"}},
	} {
		_, err := s.machines.MachineAdd(t.Context(), tc.r)
		wantRefusal(t, tc.name, err, tc.code, tc.words...)
	}
}

func TestMachineAddCommissions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m, err := s.machines.MachineAdd(t.Context(), &operator.MachineAddRequest{Macs: []string{"52:54:00:00:00:09"}, Commission: true})
	if err != nil || !m.GetApproved() || m.GetOperationId() == "" {
		t.Fatalf("%v, %v", m, err)
	}
	op, err := s.operations.OperationGet(t.Context(), &operator.OperationGetRequest{Operation: m.GetOperationId()})
	if err != nil || op.GetKind() != "commission" {
		t.Errorf("%v, %v", op, err)
	}
	_, err = s.machines.MachinePower(t.Context(), &operator.MachinePowerRequest{Machine: m.GetId(), Action: operator.PowerAction_POWER_ACTION_ON})
	wantRefusal(t, "power without a BMC", err, codes.FailedPrecondition, "ingot bmc set "+m.GetId())
}

func TestPaging(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 7 {
		s.add(n + 1)
	}
	seen := map[string]bool{}
	token := ""
	for range 10 {
		page, err := s.machines.MachineList(t.Context(), &operator.MachineListRequest{PageSize: 3, PageToken: token, Filter: "state=enrolled AND hostname=m*"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.GetMachines() {
			if seen[m.GetId()] {
				t.Errorf("%s came twice", m.GetId())
			}
			seen[m.GetId()] = true
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(seen) != 7 || token != "" {
		t.Errorf("%d machines on all pages, want 7; token %q", len(seen), token)
	}
	for filter, want := range map[string]int{
		"mac=52:54:00:00:00:05": 1, "hostname=m5": 1, "hostname=M*": 7, "hostname=x*": 0, "approved=false": 0, "approved=true outcome=none": 7,
		"state=ready": 0, "power=unknown AND architecture=amd*": 7, "power=on": 0,
	} {
		got, err := s.machines.MachineList(t.Context(), &operator.MachineListRequest{Filter: filter})
		if err != nil || len(got.GetMachines()) != want {
			t.Errorf("%s: %d machines, want %d (%v)", filter, len(got.GetMachines()), want, err)
		}
	}
	for _, r := range []*operator.MachineListRequest{
		{PageToken: "bm90IG91cnM"}, {PageToken: strings.Repeat("A", 5000)}, {PageSize: -1}, {Filter: "colour=red"}, {Filter: "state=asleep"}, {Filter: "hostname=a_b"}, {Filter: "hostname="}, {Filter: strings.Repeat("a=b ", 300)},
	} {
		_, err := s.machines.MachineList(t.Context(), r)
		wantRefusal(t, fmt.Sprint(r), err, codes.InvalidArgument)
	}
}

func TestRESTSpeaksOfMachines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	code, text := s.rest("POST", "/v1/machines", s.token, map[string]any{"hostname": "web", "macs": []string{"52:54:00:00:00:05"}})
	if code != 200 || !strings.Contains(text, `"hostname":"web"`) {
		t.Fatalf("add: %d %s", code, text)
	}
	for _, name := range []string{"web", "52:54:00:00:00:05"} {
		if code, text := s.rest("GET", "/v1/machines/"+name, s.token, nil); code != 200 {
			t.Errorf("get %s: %d %s", name, code, text)
		}
		if code, text := s.rest("POST", "/v1/machines/"+name+":approve", s.token, map[string]any{}); code != 200 {
			t.Errorf("approve %s: %d %s", name, code, text)
		}
	}
	for _, tc := range []struct {
		method, path string
		body         any
		code         int
	}{
		{"GET", "/v1/machines/nobody", nil, 404},
		{"POST", "/v1/machines", map[string]any{"hostnome": "typing error"}, 400},
		{"POST", "/v1/machines/web:deploy", map[string]any{"image": "x"}, 400},
		{"POST", "/v1/machines/web:explode", map[string]any{}, 404},
		{"PUT", "/v1/machines/web/bmc", map[string]any{"url": "nonsense"}, 400},
		{"GET", "/v2/machines", nil, 404},
		{"GET", "/debug/pprof/", nil, 404},
	} {
		if code, text := s.rest(tc.method, tc.path, s.token, tc.body); code != tc.code {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, code, text, tc.code)
		}
	}
	if code, _ := s.rest("POST", "/v1/machines", s.token, map[string]any{"hostname": strings.Repeat("x", 17<<20)}); code < 400 || code >= 500 {
		t.Errorf("a body of 17 MiB: %d, want a refusal", code)
	}
}

func TestBMCTestTellsWhatToDo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(1) // nothing listens on its BMC's port
	got, err := s.machines.BMCTest(t.Context(), &operator.BMCTestRequest{Machine: "m1"})
	if err != nil || got.GetOk() || got.GetProblem() == "" || got.GetBmc().GetLastError() == "" {
		t.Fatalf("%v, %v", got, err)
	}
	if strings.Contains(got.String(), bmcPassword) {
		t.Errorf("the answer holds the password: %v", got)
	}
	_, err = s.machines.BMCSet(t.Context(), &operator.BMCSetRequest{Machine: "m1", Access: &operator.BMCAccess{Url: "manual:"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err = s.machines.BMCTest(t.Context(), &operator.BMCTestRequest{Machine: "m1"})
	if err != nil || got.GetBmc().GetUrl() != "manual:" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEventsAsServerSentEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(1)
	r, err := http.NewRequestWithContext(s.soon(), "GET", s.base+"/v1/events:watch?resumeToken=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Accept", "text/event-stream")
	got, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	buffer := make([]byte, 6)
	if _, err := io.ReadFull(got.Body, buffer); err != nil || string(buffer) != "data: " || got.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%q %v %v", buffer, got.Header, err)
	}
}

func TestEventWatchHasNoGap(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.add(1)
	watch, err := s.events.EventWatch(s.soon(), &operator.EventWatchRequest{Machine: "m1", ResumeToken: "0"})
	if err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want <= 3; want++ {
		if want == 2 {
			if _, err := s.machines.MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: m.GetId()}); err != nil {
				t.Fatal(err)
			}
		}
		if want == 3 {
			if _, err := s.machines.BMCSet(t.Context(), &operator.BMCSetRequest{Machine: "m1", Access: &operator.BMCAccess{Url: "manual:"}}); err != nil {
				t.Fatal(err)
			}
		}
		e, err := watch.Recv()
		if err != nil || e.GetSequence() != want {
			t.Fatalf("event %v (%v), want sequence %d", e, err, want)
		}
	}
	bad, err := s.events.EventWatch(s.soon(), &operator.EventWatchRequest{ResumeToken: "nonsense"})
	if err == nil {
		_, err = bad.Recv()
	}
	wantRefusal(t, "a bad resume token", err, codes.InvalidArgument, "resume token")
}

// TestMachineThatIsWanted: what comes before a deletion, and how to do without.
func TestMachineThatIsWanted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.ready(1)
	_, err := s.machines.MachineRelease(t.Context(), &operator.MachineReleaseRequest{Machine: m.GetId(), DryRun: true})
	wantRefusal(t, "release of a ready machine", err, codes.FailedPrecondition, "is ready: there is nothing to release")
	if _, err := s.machines.MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: m.GetId()}); err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, s.store, `UPDATE machine SET state = 'commissioning', outcome = 'running', deadline_at = now() + interval '1 hour' WHERE id = $1`, m.GetId())
	_, err = s.machines.MachineDelete(t.Context(), &operator.MachineDeleteRequest{Machine: m.GetId()})
	wantRefusal(t, "while commissioning", err, codes.FailedPrecondition, "cancel it", "ingot machine delete "+m.GetId()+" --force")
	storetest.Exec(t, s.store, `UPDATE machine SET state = 'deployed', outcome = 'none', deadline_at = NULL WHERE id = $1`, m.GetId())
	_, err = s.machines.MachineDelete(t.Context(), &operator.MachineDeleteRequest{Machine: m.GetId()})
	wantRefusal(t, "while deployed", err, codes.FailedPrecondition, "ingot machine release "+m.GetId()+" --erase", "--force")
	if _, err := s.machines.MachineDelete(t.Context(), &operator.MachineDeleteRequest{Machine: m.GetId(), Force: true}); err != nil {
		t.Error(err)
	}
}
