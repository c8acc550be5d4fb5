package daemon

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/machine"
)

func TestParseConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ingotd.yaml")
	if err := os.WriteFile(file, []byte("interface: [eth1]\nagent-port: 9444\ndns: [10.0.0.2, 10.0.0.3]\nforeign-dhcp-check: false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type want struct {
		listen     string
		interfaces []string
		agentPort  int
		dns        int
		ranges     int
		foreign    bool
		advertise  bool
	}
	for name, tc := range map[string]struct {
		args []string
		want want
	}{
		"nothing": {nil, want{":8443", nil, 8444, 0, 0, true, false}},
		"lab": {
			[]string{"--interface", "br0", "--listen", "10.0.0.1:8443", "--dhcp-range", "10.0.0.100-10.0.0.200", "--router-advertise", "--agent-console", "ttyS0,115200"},
			want{"10.0.0.1:8443", []string{"br0"}, 8444, 0, 1, true, true},
		},
		"file":            {[]string{"--config", file}, want{":8443", []string{"eth1"}, 9444, 2, 0, false, false}},
		"flags over file": {[]string{"--config=" + file, "--agent-port=7444", "--interface=a", "--interface=b", "--dns=10.0.0.9"}, want{":8443", []string{"a", "b"}, 7444, 1, 0, false, false}},
		"foreign off":     {[]string{"--foreign-dhcp-check=false"}, want{":8443", nil, 8444, 0, 0, false, false}},
	} {
		c, err := ParseConfig(tc.args, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := want{c.Listen, c.Interfaces, c.AgentPort, len(c.dns), len(c.ranges), c.checkForeign(), c.Advertise}
		if diff := cmp.Diff(got, tc.want, cmp.AllowUnexported(want{})); diff != "" {
			t.Errorf("%s (got, want):\n%s", name, diff)
		}
	}
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]machine.ReadBack{"all": {}, "sha256": {SHA256: true}, "10%": {Percent: 10}} {
		c, err := ParseConfig([]string{"--read-back", word}, io.Discard)
		if err != nil || c.proof != want {
			t.Errorf("%s: got %+v, %v, want %+v", word, c.proof, err, want)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ingotd.yaml")
	if err := os.WriteFile(file, []byte("interfaces: [eth1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, word string }{
		{"--colour red", "colour"},
		{"word", "word"},
		{"--listen 8443", "--listen"},
		{"--listen example.org:8443", "--listen"},
		{"--agent-port 70000", "70000"},
		{"--agent-port 8080", "--boot-port"},
		{"--dhcp-range 10.0.0.9-10.0.0.2 --interface a", "lower one first"},
		{"--dhcp-range 10.0.0.9 --interface a", "10.0.0.9"},
		{"--dhcp-range fd00::1-fd00::2 --interface a", "IPv4"},
		{"--dhcp-range 10.0.0.1-10.0.0.9", "--interface"},
		{"--interface ../x", "--interface"},
		{"--interface a --interface a", "each once"},
		{"--agent-console ttyS0;rm", "--agent-console"},
		{"--domain a..b", "--domain"},
		{"--read-back 0%", "--read-back"},
		{"--read-back some", "sha256"},
		{"--dns 1.2.3", "--dns"},
		{"--gateway x", "--gateway"},
		{"--log-level loud", "--log-level"},
		{"--config " + file, "interfaces"},
		{"--config /nowhere/at/all", "/nowhere"},
		{"--config", "--config"},
	} {
		_, err := ParseConfig(strings.Fields(tc.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v, want an error that mentions %q", tc.args, err, tc.word)
		}
	}
	if _, err := ParseConfig([]string{"--help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
