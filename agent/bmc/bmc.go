// Package bmc is the BMC seen from inside the machine, through the kernel's IPMI
// device: where it is reached, and what it is.
package bmc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/u-root/u-root/pkg/ipmi"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// ErrNone means that the kernel found no BMC; most desktop boards have none.
var ErrNone = errors.New("no IPMI device")

const device = "/dev/ipmi0"

// LAN configuration parameters, IPMI 2.0 table 23-4.
const (
	paramAddress = 3
	paramMAC     = 5
	// maxChannel: channels 1 to 11 may be LANs; 1 nearly always is.
	maxChannel = 11
)

// Read asks the BMC. ErrNone when there is none. A BMC that tells only a part
// gives that part and an error. The kernel bounds each answer to a few seconds.
func Read(h host.Host) (*hardware.BMC, error) {
	if !h.Exists(device) {
		return nil, ErrNone
	}
	b, err := ipmi.OpenPath(h.Path(device))
	if err != nil {
		return nil, fmt.Errorf("open the BMC: %w", err)
	}
	defer b.Close()
	id, err := b.GetDeviceID()
	if err != nil {
		return nil, fmt.Errorf("ask the BMC what it is: %w", err)
	}
	out := describe(id)
	out.Address, out.Mac, err = lan(b.GetLanConfig)
	return out, err
}

// describe reads the answer of Get Device ID, IPMI 2.0 section 20.1.
func describe(id *ipmi.DevID) *hardware.BMC {
	return &hardware.BMC{
		Firmware:       fmt.Sprintf("%d.%02x", id.FwRev1&0x7f, id.FwRev2),
		IpmiVersion:    fmt.Sprintf("%d.%d", id.IpmiVersion&0xf, id.IpmiVersion>>4),
		ManufacturerId: uint32(id.ManufacturerID[0]) | uint32(id.ManufacturerID[1])<<8 | uint32(id.ManufacturerID[2]&0xf)<<16,
	}
}

// lan finds the first channel that has a hardware address.
func lan(get func(channel, param byte) ([]byte, error)) (address, mac string, err error) {
	for channel := byte(1); channel <= maxChannel; channel++ {
		var raw []byte
		if raw, err = get(channel, paramMAC); err != nil {
			continue
		}
		hw := tail(raw, 6)
		if hw == nil {
			continue
		}
		mac = net.HardwareAddr(hw).String()
		if raw, err = get(channel, paramAddress); err != nil {
			return "", mac, fmt.Errorf("ask the BMC for its address: %w", err)
		}
		if ip, ok := netip.AddrFromSlice(tail(raw, 4)); ok && !ip.IsUnspecified() {
			address = ip.String()
		}
		return address, mac, nil
	}
	return "", "", fmt.Errorf("the BMC tells of no LAN channel: %w", err)
}

// tail takes the value from an answer, which has the completion code and the
// parameter's revision before it; nil for an answer of another length or of
// zeros only.
func tail(raw []byte, length int) []byte {
	if len(raw) < length {
		return nil
	}
	value := raw[len(raw)-length:]
	for _, b := range value {
		if b != 0 {
			return value
		}
	}
	return nil
}
