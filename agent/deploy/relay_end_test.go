package deploy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/agent"
)

// passing has a test look on as a deploy comes to a step of the writer, and to
// the begin and the end of a phase.
type passing struct {
	mu sync.Mutex
	at func(place string)
}

func (p *passing) Progress(m *agent.Progress) { p.pass("step " + m.Phase) }

func (p *passing) Report(r *agent.Report) {
	if e := r.GetPhase(); e != nil && e.Elapsed == nil {
		p.pass("begin " + e.Phase)
	} else if e != nil {
		p.pass("end " + e.Phase)
	}
}

func (p *passing) pass(place string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at(place)
}

// TestNobodyIsServedAfterADeploy: however a deploy ends, and before the installed
// system can be entered, the port is closed.
func TestNobodyIsServedAfterADeploy(t *testing.T) {
	t.Parallel()
	im := fullImage(t)
	for _, c := range []struct {
		name   string
		cancel string // the place at which the deploy is cancelled
		lost   string // the place from which on the image is nowhere
		closed string // the place at which the port has to be closed
		want   agent.Outcome
	}{
		{"entered", "", "", "end enter", agent.Outcome_OUTCOME_SUCCEEDED},
		{"cancelled in the write", "step write", "", "", agent.Outcome_OUTCOME_CANCELLED},
		{"cancelled in the read-back", "step verify", "", "", agent.Outcome_OUTCOME_CANCELLED},
		{"cancelled after the write", "begin grow", "", "", agent.Outcome_OUTCOME_CANCELLED},
		{"failed in the write", "", "begin write", "", agent.Outcome_OUTCOME_FAILED},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &exchange{serves: make(chan string, 1)}
			b := newBench(t, im)
			b.machine.Relay = e.door("machine-a")
			b.order.Relay = &agent.Relay{Key: bytes.Repeat([]byte{7}, 32)}
			var lost atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if lost.Load() {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				http.Redirect(w, r, im.url, http.StatusTemporaryRedirect)
			}))
			defer server.Close()
			b.order.FrameUrls = []string{server.URL}
			plan, err := Plan(b.machine, b.order)
			must(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			url := ""
			look := &passing{at: func(place string) {
				if url == "" && strings.HasPrefix(place, "step ") {
					url = strings.TrimPrefix(<-e.serves, "http://")
					if !answers(url) {
						t.Errorf("nobody answers at %s during the write", url)
					}
				}
				if place == c.closed && answers(url) {
					t.Errorf("%s answers at the %s", url, place)
				}
				if place == c.lost {
					lost.Store(true)
				}
				if place == c.cancel {
					cancel(job.Cancelled("by the test"))
				}
			}}
			result, _ := (&job.Runner{To: look, Log: slog.New(slog.DiscardHandler)}).Execute(ctx, 1, 1, plan)
			if result.Outcome != c.want || url == "" {
				t.Fatalf("got %v, served at %q", result, url)
			}
			if answers(url) {
				t.Errorf("%s answers after the deploy", url)
			}
		})
	}
}

func answers(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close() // it was only asked whether somebody is there
	return true
}

// TestPrivateImageIsRelayedByTLSAlone: frames that came over TLS are passed on over
// TLS, to whoever shows a certificate, or to nobody.
func TestPrivateImageIsRelayedByTLSAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url  string
		tls  bool
		pool *x509.CertPool
		want string // what the URL begins with; empty: no relay
	}{
		"public":                    {"http://10.0.0.1/x", false, x509.NewCertPool(), "http:"},
		"as ordered":                {"http://10.0.0.1/x", true, x509.NewCertPool(), "https:"},
		"private":                   {"https://10.0.0.1/x", false, x509.NewCertPool(), "https:"},
		"private, and no authority": {"https://10.0.0.1/x", false, nil, ""},
	} {
		d := &deploy{manifest: &manifest.Manifest{}, order: &agent.DeployJob{FrameUrls: []string{c.url}, Relay: &agent.Relay{Key: bytes.Repeat([]byte{7}, 32), Tls: c.tls}}}
		d.machine.Relay = &Relay{MachineID: "machine-a", Certificate: func() *tls.Certificate { return nil }, Authority: func() *x509.CertPool { return c.pool }}
		d.joinRelay(&job.Run{Log: slog.New(slog.DiscardHandler)})
		got := ""
		if d.relay != nil {
			got = d.relay.node.URL(&net.TCPAddr{Port: 4000})
			d.leaveRelay()
		}
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: served at %q, want %q", name, got, c.want)
		}
	}
}
