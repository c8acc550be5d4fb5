package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/controller/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// freePorts finds free ones; another process may take one before it is used, which
// the start would tell.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// started runs a controller until the test stops it, and gives what it printed
// up to its ready line.
func started(t *testing.T, c Config) (lines []string, stop func() error) {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(ctx, c, out, io.Discard)
		out.CloseWithError(fmt.Errorf("ended: %w", err))
		ended <- err
	}()
	scan := bufio.NewScanner(in)
	for scan.Scan() {
		lines = append(lines, scan.Text())
		if strings.HasPrefix(scan.Text(), "ready: ") {
			return lines, func() error { cancel(); return <-ended }
		}
	}
	t.Fatalf("not ready: %v", scan.Err())
	cancel()
	return nil, nil
}

func TestRun(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 4)
	c := Config{
		DataDir: t.TempDir(), Database: storetest.Database(t), Listen: fmt.Sprintf("127.0.0.1:%d", ports[0]),
		AgentPort: ports[1], BootPort: ports[2], ReportPort: ports[3],
	}
	lines, stop := started(t, c)
	token, ok := strings.CutPrefix(lines[0], "admin token: ")
	if len(lines) != 2 || !ok {
		t.Fatalf("first start printed %q", lines)
	}
	pem, err := os.ReadFile(filepath.Join(c.DataDir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	get := func(path, token string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+c.Listen+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		got, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		return got.StatusCode
	}
	for path, want := range map[string]int{"/healthz": 200, "/openapi.json": 200, "/v1/machines": 200, "/metrics": 200} {
		if got := get(path, token); got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	if got := get("/v1/machines", "ingot_wrong"); got != 401 {
		t.Errorf("a wrong token: %d, want 401", got)
	}
	second := c
	second.DataDir = t.TempDir()
	second.KeyFile = filepath.Join(c.DataDir, "key")
	if err := second.Check(); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), second, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second controller on the same ports: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	client.CloseIdleConnections()
	lines, stop = started(t, c)
	if len(lines) != 1 {
		t.Errorf("second start printed %q, want the ready line alone", lines)
	}
	if got := get("/v1/machines", token); got != 200 {
		t.Errorf("the token after a restart: %d", got)
	}
	if err := stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		word   string
	}{
		"no such interface": {func(c *Config) { c.Interfaces = []string{"nosuch0"} }, "nosuch0"},
		"range elsewhere": {func(c *Config) {
			c.Interfaces, c.DHCPRanges = []string{"lo"}, []string{"10.9.9.1-10.9.9.9"}
		}, "10.9.9.1"},
		"no database": {func(c *Config) { c.Database = "host=/nowhere" }, "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{DataDir: t.TempDir(), Database: storetest.Database(t)}
			tc.change(&c)
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if err := Run(t.Context(), c, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), tc.word) {
				t.Errorf("%v, want an error that mentions %q", err, tc.word)
			}
		})
	}
}
