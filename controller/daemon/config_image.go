package daemon

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/controller/machine"
)

// checkImages reads the limits of what is sent and kept of images.
func (c *Config) checkImages() error {
	for _, l := range []struct {
		flag, text string
		to         *int64
	}{
		{"--image-rate", c.ImageRate, &c.egress.Site},
		{"--image-rate-subnet", c.ImageRateSubnet, &c.egress.Subnet},
		{"--image-rate-machine", c.ImageRateMachine, &c.egress.Machine},
	} {
		n, err := parseBytes(l.text)
		if err != nil {
			return fmt.Errorf("%s %q: %w", l.flag, l.text, err)
		}
		// Less than one piece in a few seconds would only look like a stall.
		if n > 0 && n < 100_000 {
			return fmt.Errorf("%s %q: less than 100K a second is no use: a deploy would time out", l.flag, l.text)
		}
		*l.to = n
	}
	n, err := parseBytes(c.ImageCacheBytes)
	if err != nil {
		return fmt.Errorf("--image-cache-bytes %q: %w", c.ImageCacheBytes, err)
	}
	c.cache = uint64(n)
	c.sources = nil
	for _, text := range c.ImageSourceAllow {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("--image-source-allow %q: want a network such as 127.0.0.0/8", text)
		}
		c.sources = append(c.sources, network)
	}
	return nil
}

// checkProof reads how much of what a deploy wrote is read back.
func (c *Config) checkProof() error {
	share, isShare := strings.CutSuffix(c.ReadBack, "%")
	n, err := strconv.ParseUint(share, 10, 32)
	switch {
	case c.ReadBack == "" || c.ReadBack == "all":
		c.proof = machine.ReadBack{}
	case c.ReadBack == "sha256":
		c.proof = machine.ReadBack{SHA256: true}
	case isShare && err == nil && n >= 1 && n <= 99:
		c.proof = machine.ReadBack{Percent: uint32(n)}
	default:
		return fmt.Errorf("--read-back %q: want all, sha256, or a share from 1%% to 99%%", c.ReadBack)
	}
	return nil
}

// parseBytes reads a number of bytes with one of K, M, G, T behind it (powers of
// 1000), or none; nothing is 0.
func parseBytes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits := strings.TrimRight(text, "KMGT")
	unit := map[string]int64{"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || unit == 0 || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("want a number of bytes such as 1500000, 500M or 2G")
	}
	return n * unit, nil
}
