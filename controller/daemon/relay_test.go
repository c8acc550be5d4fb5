package daemon

import (
	"io"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/relay"
)

func TestRelayWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want relayConfig
		fail bool
	}{
		{nil, relayConfig{ring: 1_000_000_000}, false},
		{[]string{"--relay=tls", "--relay-ring=64M", "--relay-rate=2M", "--relay-members=9"}, relayConfig{64_000_000, 2_000_000}, false},
		{[]string{"--relay=off"}, relayConfig{ring: 1_000_000_000}, false},
		{[]string{"--relay=maybe"}, relayConfig{}, true},
		{[]string{"--relay-ring=1M"}, relayConfig{}, true},
		{[]string{"--relay-ring=many"}, relayConfig{}, true},
		{[]string{"--relay-rate=5"}, relayConfig{}, true},
		{[]string{"--relay-members=1"}, relayConfig{}, true},
	} {
		got, err := ParseConfig(c.args, io.Discard)
		if (err != nil) != c.fail || err == nil && got.relay != c.want {
			t.Errorf("%v: got %v, %v, want %v", c.args, got.relay, err, c.want)
		}
	}
}

func TestRelayMetrics(t *testing.T) {
	t.Parallel()
	m := &meter{registry: prometheus.NewRegistry()}
	h := &house{c: Config{Relay: relayOn, RelayMembers: 3}}
	board := h.newBoard(m)
	if _, ok := board.Enter(relay.Seat{Machine: machine.ID("m"), Order: 1, Image: "i"}); !ok {
		t.Error("a board without a seat")
	}
	names := map[string]bool{}
	families, err := m.registry.Gather()
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, name := range []string{"ingot_relay_members", "ingot_relay_heads", "ingot_relay_slow", "ingot_relay_reforms_total"} {
		if !names[name] {
			t.Errorf("no %s among the metrics (%v)", name, err)
		}
	}
	h.c.Relay = relayOff
	if h.newBoard(m) != nil {
		t.Error("a board although relays are off")
	}
}
