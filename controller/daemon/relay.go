package daemon

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-metal/ingot/controller/relay"
)

// Words of --relay.
const (
	relayOn  = "on"
	relayTLS = "tls"
	relayOff = "off"
)

// relayConfig is what Check made of the words about relays.
type relayConfig struct {
	ring, rate uint64 // bytes, bytes a second
}

// checkRelay reads how machines may pass images on to each other.
func (c *Config) checkRelay() error {
	or(&c.Relay, relayOn)
	or(&c.RelayRing, "1G")
	or(&c.RelayMembers, 3)
	if c.Relay != relayOn && c.Relay != relayTLS && c.Relay != relayOff {
		return fmt.Errorf("--relay %q: want on, tls or off", c.Relay)
	}
	ring, err := parseBytes(c.RelayRing)
	if err != nil {
		return fmt.Errorf("--relay-ring %q: %w", c.RelayRing, err)
	}
	if ring < 8_000_000 || ring > 64_000_000_000 {
		return fmt.Errorf("--relay-ring %q: want from 8M to 64G", c.RelayRing)
	}
	rate, err := parseBytes(c.RelayRate)
	if err != nil {
		return fmt.Errorf("--relay-rate %q: %w", c.RelayRate, err)
	}
	if rate > 0 && rate < 100_000 {
		return fmt.Errorf("--relay-rate %q: less than 100K a second is no use; --relay off ends relaying", c.RelayRate)
	}
	if c.RelayMembers < 2 || c.RelayMembers > 10_000 {
		return fmt.Errorf("--relay-members %d: want from 2 to 10000", c.RelayMembers)
	}
	c.relay = relayConfig{uint64(ring), uint64(rate)}
	return nil
}

// newBoard makes what plans relays; nil when there are to be none.
func (h *house) newBoard(m *meter) *relay.Board {
	if h.c.Relay == relayOff {
		return nil
	}
	board := relay.NewBoard(relay.Rules{MinMembers: h.c.RelayMembers})
	m.relay(board)
	return board
}

// relay adds how relays stand.
func (m *meter) relay(b *relay.Board) {
	for _, g := range []struct {
		name, help string
		of         func(relay.Count) int
	}{
		{"members", "Machines that write an image and may relay it.", func(c relay.Count) int { return c.Members }},
		{"heads", "Of the members of relays, those that read from a controller.", func(c relay.Count) int { return c.Heads }},
		{"slow", "Of the members of relays, those that are slow.", func(c relay.Count) int { return c.Slow }},
	} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ingot_relay_" + g.name, Help: g.help},
			func() float64 { return float64(g.of(b.Count())) }))
	}
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "ingot_relay_reforms_total", Help: "Links of relays that were cut because one of the two was slow, silent or failed.",
	}, func() float64 { return float64(b.Count().Reforms) }))
}
