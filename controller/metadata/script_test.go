package metadata

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const token = "tok_0123456789-abcdef"

// noWay names no program, for a system that cannot post at all.
const noWay = "no-such-program"

// ledger keeps the contract of Reports in memory.
type ledger struct {
	mu    sync.Mutex
	taken map[string]Report
	fail  int // answers "try again" that many times first
	calls int
}

func (l *ledger) ReportAccept(_ context.Context, tok string, r Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.calls <= l.fail {
		return errors.New("connection refused")
	}
	if tok != token {
		return ErrUnknownToken
	}
	if old, ok := l.taken[tok]; ok && !cmp.Equal(old, r) {
		return ErrUsed
	}
	if l.taken == nil {
		l.taken = map[string]Report{}
	}
	l.taken[tok] = r
	return nil
}

// tools makes a PATH with the script's helpers and one way of posting.
func tools(t *testing.T, way string) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"sh", "cat", "tr", "sed", "head", "tail", "mktemp", "rm", "uname", "sleep", "ssh-keygen", "hostname"}
	for _, name := range append(names, way) {
		from := filepath.Join("/usr/bin", name)
		if _, err := os.Stat(from); err != nil {
			if from, err = exec.LookPath(name); err != nil && (name != way || way == noWay) {
				continue // optional for the script: it copes
			} else if err != nil {
				t.Fatalf("%s is needed to test the report script: apt-get install %s", name, name)
			}
		}
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func runScript(t *testing.T, way, url string, ca []byte, tok string) (string, error) {
	t.Helper()
	to := ReportTo{URL: url, Token: tok, CAPEM: ca, MachineID: "k3f9"}
	script, err := to.script("i-1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "part-001")
	if err := os.WriteFile(file, script, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", file)
	cmd.Env = []string{"PATH=" + tools(t, way), "INGOT_REPORT_SECONDS=1", "HOME=/nonexistent", "https_proxy=http://127.0.0.1:1"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func caOf(srv *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// The script as cloud-init would run it, against the real handler over TLS, by
// each of its three ways.
func TestScriptReports(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"curl", "python3", "wget"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			book := &ledger{fail: 1}
			srv := httptest.NewTLSServer(NewReportHandler(book, quiet()))
			defer srv.Close()
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			out, err := runScript(t, way, srv.URL+ReportPath, caOf(srv), token)
			if err != nil || !strings.Contains(out, "first boot reported") || !strings.Contains(out, "HTTP status 503") {
				t.Fatalf("got %v:\n%s\nwant one retry and a report", err, out)
			}
			got := book.taken[token]
			bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
			host, _ := os.Hostname()
			release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
			want := Report{MachineID: "k3f9", InstanceID: "i-1", Hostname: host, BootID: strings.TrimSpace(string(bootID)), Kernel: strings.TrimSpace(string(release))}
			got.Root, got.MACs, got.SSHHostKeys = "", nil, nil
			if d := cmp.Diff(got, want); d != "" {
				t.Errorf("got - want +\n%s", d)
			}
			if out, err = runScript(t, way, srv.URL+ReportPath, caOf(srv), token); err != nil {
				t.Errorf("same report again: got %v:\n%s", err, out)
			}
			out, err = runScript(t, way, srv.URL+ReportPath, caOf(srv), "tok_another-0123456789")
			if err == nil || !strings.Contains(out, "refused the report with HTTP status 403") {
				t.Errorf("unknown token: got %v:\n%s\nwant a refusal without retries", err, out)
			}
		})
	}
}

// A server that our CA did not sign hears nothing of the token.
func TestScriptPinsTheCA(t *testing.T) {
	t.Parallel()
	other, err := os.ReadFile("testdata/other-ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"curl", "python3", "wget"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			book := &ledger{}
			srv := httptest.NewUnstartedServer(NewReportHandler(book, quiet()))
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			srv.StartTLS()
			defer srv.Close()
			out, err := runScript(t, way, srv.URL+ReportPath, other, token)
			if err == nil || book.calls != 0 || !strings.Contains(out, "giving up") {
				t.Errorf("got %v, %d calls:\n%s\nwant no report to a server of another CA", err, book.calls, out)
			}
		})
	}
}

func TestScriptWithoutAnyWayToPost(t *testing.T) {
	t.Parallel()
	out, err := runScript(t, noWay, "https://127.0.0.1:1/", mustPEM(t), token)
	if err == nil || !strings.Contains(out, "neither curl, python3 nor wget") {
		t.Errorf("got %v:\n%s\nwant it to say what is missing", err, out)
	}
}

func mustPEM(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/other-ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestScriptQuotesJSON(t *testing.T) {
	t.Parallel()
	text := string(reportScript)
	i := strings.Index(text, "json()")
	j := strings.Index(text, "root_parameter()")
	cmd := exec.Command("/bin/sh", "-c", text[i:j]+"\njson \"$1\"; printf '%s\\n' 'a \"b\"' '' 'c\\d' | json_list", "sh", "x\"y\\z\n\tend")
	got, err := cmd.Output()
	want := `"x\"y\\zend"["a \"b\"","c\\d"]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestParseReportReadsWhatWasRendered(t *testing.T) {
	t.Parallel()
	want := ReportTo{URL: "https://10.0.0.1:8443/v1/report", Token: token, CAPEM: mustPEM(t), MachineID: "k3f9", InstanceID: "i-1"}
	data, err := want.script("i-1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseReport(data)
	if d := cmp.Diff(got, want); err != nil || d != "" {
		t.Errorf("got - want +\n%s%v", d, err)
	}
	for name, bad := range map[string][]byte{"none": []byte("#cloud-config\n{}\n"), "empty": nil, "cut": data[:200], "no token": bytes.Replace(data, []byte(token), nil, 1)} {
		if _, err := ParseReport(bad); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte("#!/bin/sh\nINGOT_REPORT_URL='https://a/'\n# end of the head\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReport(b); err == nil && r.Validate() != nil {
			t.Errorf("accepted %+v, which is not valid", r.MachineID)
		}
	})
}
