package redfish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

// service is a small Redfish service over TLS, of which a test replaces parts.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	replace map[string]http.HandlerFunc // by "METHOD path"
	seen    []string                    // "METHOD path auth"
	resets  []string
}

const systemDoc = `{"Id":"1","Manufacturer":"Acme","Model":"X","PowerState":"Off","UUID":"4C4C4544-0035-3410-8050-C6C04F314733",
 "Boot":{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"None","BootSourceOverrideMode":"UEFI"},
 "Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"%s}}}`

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{replace: map[string]http.HandlerFunc{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.Path
	auth := "none"
	if r.Header.Get("X-Auth-Token") != "" {
		auth = "token"
	} else if u, p, ok := r.BasicAuth(); ok {
		if auth = "basic"; u != "user" || p != "pass-word" {
			auth = "wrong"
		}
	}
	s.mu.Lock()
	s.seen = append(s.seen, key+" "+auth)
	h := s.replace[key]
	s.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	switch key {
	case "GET /redfish/v1/":
		io.WriteString(w, `{"Systems":{"@odata.id":"/redfish/v1/Systems"}}`)
	case "POST /redfish/v1/SessionService/Sessions":
		w.Header().Set("X-Auth-Token", "tok")
		w.Header().Set("Location", s.URL+"/redfish/v1/SessionService/Sessions/7")
		w.WriteHeader(http.StatusCreated)
	case "DELETE /redfish/v1/SessionService/Sessions/7":
		w.WriteHeader(http.StatusNoContent)
	case "GET /redfish/v1/Systems":
		io.WriteString(w, `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`)
	case "GET /redfish/v1/Systems/1":
		fmt.Fprintf(w, systemDoc, "")
	case "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset":
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.resets = append(s.resets, string(b))
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func (s *service) count(line string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.seen {
		if l == line {
			n++
		}
	}
	return n
}

func (s *service) driver(t *testing.T, pin string) power.Driver {
	t.Helper()
	u, err := url.Parse("redfish" + strings.TrimPrefix(s.URL, "https"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(power.Target{URL: u, User: "user", Password: power.NewSecret("pass-word"), Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// status answers with a code and, optionally, a Redfish message.
func status(code int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":{"@Message.ExtendedInfo":[{"MessageId":%q,"Message":"m"}]}}`, message)
	}
}

func wantKind(t *testing.T, err error, want power.Kind) *power.Error {
	t.Helper()
	if got := power.KindOf(err); got != want {
		t.Fatalf("got %v (kind %q), want kind %q", err, got, want)
	}
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "pass-word") {
		t.Errorf("password in the error: %v", err)
	}
	return err.(*power.Error)
}

func TestSessionIsOpenedOnceAndEnded(t *testing.T) {
	t.Parallel()
	s := newService(t)
	d := s.driver(t, "")
	for range 3 {
		if got, err := d.State(t.Context()); err != nil || got != power.StateOff {
			t.Fatalf("state: got %v, %v, want off", got, err)
		}
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"POST /redfish/v1/SessionService/Sessions none":      1,
		"GET /redfish/v1/Systems/1 token":                    3,
		"GET /redfish/v1/Systems token":                      1,
		"DELETE /redfish/v1/SessionService/Sessions/7 token": 1,
	} {
		if got := s.count(line); got != want {
			t.Errorf("%s: got %d times, want %d", line, got, want)
		}
	}
}

func TestBasicWhereNoSession(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"no such service": status(404, ""),
		"exhausted":       status(503, "Base.1.0.SessionLimitExceeded"),
		"bad request":     status(400, ""),
		"without token":   status(201, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.replace["POST /redfish/v1/SessionService/Sessions"] = answer
			if _, err := s.driver(t, "").State(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.count("GET /redfish/v1/Systems/1 basic"); got != 1 {
				t.Errorf("basic authentication: got %d times, want 1", got)
			}
		})
	}
}

func TestForgottenSessionIsOpenedAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	d := s.driver(t, "")
	if _, err := d.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := true
	s.replace["GET /redfish/v1/Systems/1"] = func(w http.ResponseWriter, _ *http.Request) {
		if first {
			first = false
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, systemDoc, "")
	}
	if _, err := d.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.count("POST /redfish/v1/SessionService/Sessions none"); got != 2 {
		t.Errorf("sessions: got %d, want 2", got)
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	s := newService(t)
	sum := sha256.Sum256(s.Certificate().Raw)
	want := hex.EncodeToString(sum[:])
	id, err := s.driver(t, "").Identify(t.Context())
	if err != nil || id.CertificateSHA256 != want {
		t.Errorf("first use: got %q, %v, want %q", id.CertificateSHA256, err, want)
	}
	if id.SystemUUID != "4c4c4544-0035-3410-8050-c6c04f314733" {
		t.Errorf("UUID: got %q", id.SystemUUID)
	}
	if _, err := s.driver(t, want).State(t.Context()); err != nil {
		t.Errorf("right pin: %v", err)
	}
	before := len(s.seen)
	_, err = s.driver(t, strings.Repeat("ab", 32)).State(t.Context())
	wantKind(t, err, power.ErrCertificateChanged)
	if len(s.seen) != before {
		t.Errorf("a request was sent to a BMC with another certificate: %v", s.seen[before:])
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	stranger := newService(t)
	for name, c := range map[string]struct {
		key, to string
		want    power.Kind
	}{
		"reading, elsewhere": {"GET /redfish/v1/Systems/1", stranger.URL + "/redfish/v1/Systems/1", power.ErrProtocol},
		"login, elsewhere":   {"POST /redfish/v1/SessionService/Sessions", stranger.URL + "/x", power.ErrProtocol},
		"login, same host":   {"POST /redfish/v1/SessionService/Sessions", "/x", power.ErrProtocol},
		"to plain HTTP":      {"GET /redfish/v1/Systems/1", strings.Replace(stranger.URL, "https", "http", 1), power.ErrProtocol},
		"in a circle":        {"GET /redfish/v1/Systems/1", "/redfish/v1/Systems/1", power.ErrProtocol},
		"same host":          {"GET /redfish/v1/Systems", "/redfish/v1/Systems/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			s.replace[c.key] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, c.to, http.StatusTemporaryRedirect)
			}
			s.replace["GET /redfish/v1/Systems/"] = func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`)
			}
			_, err := s.driver(t, "").State(t.Context())
			wantKind(t, err, c.want)
		})
	}
	if len(stranger.seen) != 0 {
		t.Errorf("another host got requests: %v", stranger.seen)
	}
}

func TestLinksLeadNowhereElse(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"https://evil/redfish/v1/Systems/1", "//evil/x", "Systems/1", "@evil/x", "/" + strings.Repeat("a", 3000), ""} {
		s := newService(t)
		s.replace["GET /redfish/v1/Systems"] = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"Members":[{"@odata.id":%q}]}`, link)
		}
		_, err := s.driver(t, "").State(t.Context())
		wantKind(t, err, power.ErrProtocol)
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.replace["GET /redfish/v1/"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "17")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, err := s.driver(t, "").State(t.Context())
	e := wantKind(t, err, power.ErrBusy)
	if !power.Temporary(err) || e.RetryAfter != 17*time.Second {
		t.Errorf("got temporary %v, retry after %s, want true, 17s", power.Temporary(err), e.RetryAfter)
	}
}

func TestResetTypes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allowed string
		want    string
		kind    power.Kind
	}{
		"not said":      {"", `{"ResetType":"On"}`, ""},
		"usual":         {`,"ResetType@Redfish.AllowableValues":["On","ForceOff"]`, `{"ResetType":"On"}`, ""},
		"only forced":   {`,"ResetType@Redfish.AllowableValues":["ForceOn","ForceOff"]`, `{"ResetType":"ForceOn"}`, ""},
		"only a button": {`,"ResetType@Redfish.AllowableValues":["PushPowerButton"]`, `{"ResetType":"PushPowerButton"}`, ""},
		"action info":   {`,"@Redfish.ActionInfo":"/redfish/v1/Info"`, `{"ResetType":"ForceOn"}`, ""},
		"info is gone":  {`,"@Redfish.ActionInfo":"/redfish/v1/Gone"`, `{"ResetType":"On"}`, ""},
		"missing":       {`,"ResetType@Redfish.AllowableValues":["Nmi"]`, "", power.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.replace["GET /redfish/v1/Systems/1"] = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, systemDoc, c.allowed) }
			s.replace["GET /redfish/v1/Info"] = func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, `{"Parameters":[{"Name":"ResetType","AllowableValues":["ForceOn"]}]}`)
			}
			wantKind(t, s.driver(t, "").On(t.Context()), c.kind)
			if got := strings.Join(s.resets, ""); got != c.want {
				t.Errorf("ordered: got %s, want %s", got, c.want)
			}
		})
	}
}

func TestChoiceOfSystem(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.replace["GET /redfish/v1/Systems"] = func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"Members":[{"@odata.id":"/redfish/v1/Systems/dpu"},{"@odata.id":"/redfish/v1/Systems/1"}]}`)
	}
	s.replace["GET /redfish/v1/Systems/dpu"] = func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"Id":"dpu","SystemType":"DPU","PowerState":"On","Actions":{"#ComputerSystem.Reset":{"target":"/x"}}}`)
	}
	if got, err := s.driver(t, "").State(t.Context()); err != nil || got != power.StateOff {
		t.Errorf("got %v, %v, want the physical system's off", got, err)
	}
}

func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"no JSON": "<html>", "an array": "[]", "number for text": `{"PowerState":7}`, "cut": `{"PowerState":"O`,
		"deep": strings.Repeat(`{"a":`, 20000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.replace["GET /redfish/v1/Systems/1"] = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, doc) }
			_, err := s.driver(t, "").State(t.Context())
			wantKind(t, err, power.ErrProtocol)
		})
	}
}

func TestEchoedPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.replace["POST /redfish/v1/SessionService/Sessions"] = status(401, "wrong password pass-word\x1b[31m")
	_, err := s.driver(t, "").State(t.Context())
	e := wantKind(t, err, power.ErrCredentials)
	if strings.ContainsRune(e.Got, '\x1b') {
		t.Errorf("control characters in %q", e.Got)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := newService(t)
	d := s.driver(t, "")
	s.Close()
	_, err := d.State(t.Context())
	wantKind(t, err, power.ErrUnreachable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.State(ctx)
	wantKind(t, err, power.ErrBusy)
	if power.Temporary(err) {
		t.Error("a cancelled call is temporary")
	}
}

func TestModeIsRepeatedAndReadBack(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var bodies []string
	s.replace["PATCH /redfish/v1/Systems/1"] = func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if strings.Contains(string(b), "Mode") {
			status(400, "Base.1.0.PropertyUnknown")(w, r)
		}
	}
	r, err := s.driver(t, "").BootSet(t.Context(), power.BootOverride{Device: power.DevicePXE, Once: true})
	wantKind(t, err, power.ErrIgnored)
	if len(bodies) != 2 || r.Override.Device != power.DeviceNone || !strings.Contains(r.Raw, "Disabled") {
		t.Errorf("got bodies %v, read back %+v; want with and without mode, and the evidence", bodies, r)
	}
}
