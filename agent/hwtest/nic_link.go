package hwtest

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/safchain/ethtool"

	"github.com/ingot-metal/ingot/agent/host"
)

// nicLink looks at each NIC with a link: whether it runs as fast as it can. A
// NIC without a link is not a fault, since nobody says which ports have a cable.
func nicLink(_ context.Context, h host.Host, found func(Finding)) error {
	names, err := h.ReadDir("/sys/class/net")
	if err != nil {
		return err
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("ask NICs: %w", err)
	}
	defer tool.Close()
	for _, name := range names {
		dir := filepath.Join("/sys/class/net", name)
		if !h.Exists(dir + "/device") {
			continue
		}
		mac, _ := h.ReadString(dir + "/address")
		carrier, _ := h.ReadString(dir + "/carrier") // EINVAL while the NIC is down
		speed, _ := h.ReadString(dir + "/speed")
		found(link(mac, name, carrier == "1", speed, fastest(tool, name)))
	}
	return nil
}

// link judges one NIC; speed is sysfs's text in Mbit/s, best 0 if unknown.
func link(mac, name string, up bool, speed string, best uint64) Finding {
	f := Finding{Subject: mac, Verdict: notApplicable}
	if !up {
		f.Detail = name + " has no link"
		return f
	}
	mbit, err := strconv.ParseInt(speed, 10, 64)
	if err != nil || mbit <= 0 {
		f.Detail = name + " has a link, and its driver tells no speed"
		return f
	}
	f.Measurements = append(f.Measurements, measure("speed_bits_per_second", float64(mbit)*1e6))
	f.Verdict = passed
	if best == 0 {
		f.Detail = name + " does not tell how fast it could be"
		return f
	}
	f.Measurements = append(f.Measurements, measure("capable_bits_per_second", float64(best)*1e6))
	if uint64(mbit) < best {
		// The switch may be the slower one, which is no fault of this machine.
		f.Detail = fmt.Sprintf("%s runs at %d Mbit/s and could do %d: look at cable and switch port", name, mbit, best)
	}
	return f
}

// fastest reads the modes that a NIC supports, in Mbit/s; 0 when the driver does
// not tell.
func fastest(tool *ethtool.Ethtool, name string) uint64 {
	var c ethtool.EthtoolCmd
	if _, err := tool.CmdGet(&c, name); err != nil {
		return 0
	}
	best := uint64(0)
	for bit, mbit := range linkModes {
		if c.Supported&(1<<bit) != 0 {
			best = max(best, mbit)
		}
	}
	return best
}

// linkModes are the bits of the old "supported" word of linux/ethtool.h; faster
// modes have none there, and count as unknown.
var linkModes = map[int]uint64{
	0: 10, 1: 10, 2: 100, 3: 100, 4: 1000, 5: 1000, 12: 10000, 15: 2500, 17: 1000, 18: 10000, 19: 10000, 20: 10000,
	21: 20000, 22: 20000, 23: 40000, 24: 40000, 25: 40000, 26: 40000, 27: 56000, 28: 56000, 29: 56000, 30: 56000,
}
