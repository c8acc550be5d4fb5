package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"

	"github.com/ingot-metal/ingot/agent/host"
)

// NIC is a physical network interface.
type NIC struct {
	Name  string
	Index int // the kernel's; 0 on a saved tree
	MAC   net.HardwareAddr
	// Permanent is the address burnt in; nil when the driver does not tell.
	Permanent net.HardwareAddr
	// LinkUp says that there is a carrier.
	LinkUp bool
	// Speed in bits a second; 0 when the link is down or the driver does not
	// tell.
	Speed uint64
	MTU   int // bytes
	// Driver and Firmware by name and version; empty when unknown.
	Driver, Firmware string
	// PCIAddress such as 0000:3b:00.0; empty for NICs on other buses.
	PCIAddress string
	// USB is true for adapters on USB, among them the BMC's own, whose addresses
	// repeat from board to board.
	USB bool
}

const classNet = "/sys/class/net"

// List returns the physical NICs in the order of their names: Ethernet and
// InfiniBand interfaces with a device behind them. Virtual interfaces and
// virtual functions' representors without a device are left out.
func List(h host.Host) ([]NIC, error) {
	names, err := h.ReadDir(classNet)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var out []NIC
	for _, name := range names {
		kind, err := h.ReadString(path.Join(classNet, name, "type"))
		const ethernet, infiniband = "1", "32" // ARPHRD_ETHER, ARPHRD_INFINIBAND
		if err != nil || kind != ethernet && kind != infiniband || !h.Exists(path.Join(classNet, name, "device")) {
			continue
		}
		n := read(h, name)
		if h.Real() {
			n.ask()
		}
		out = append(out, n)
	}
	return out, nil
}

// read fills what sysfs tells (Documentation/ABI/testing/sysfs-class-net). What
// is missing stays zero.
func read(h host.Host, name string) NIC {
	dir := path.Join(classNet, name)
	attribute := func(file string) string {
		s, err := h.ReadString(path.Join(dir, file))
		if err != nil {
			return ""
		}
		return s
	}
	n := NIC{Name: name, LinkUp: attribute("carrier") == "1"}
	if mac, err := net.ParseMAC(attribute("address")); err == nil {
		n.MAC = mac
	}
	// Mbit/s; -1 or 4294967295 mean unknown.
	if mbit, err := strconv.ParseInt(attribute("speed"), 10, 64); err == nil && n.LinkUp && mbit > 0 && mbit < 1<<31 {
		n.Speed = uint64(mbit) * 1e6
	}
	if mtu, err := strconv.Atoi(attribute("mtu")); err == nil {
		n.MTU = mtu
	}
	if link, err := h.ReadLink(path.Join(dir, "device/driver")); err == nil {
		n.Driver = path.Base(link)
	}
	n.PCIAddress, n.USB = bus(h, name)
	return n
}

// bus finds the PCI function in the device's path. A virtio NIC hangs below its
// own PCI function, a USB adapter below that of its controller.
func bus(h host.Host, name string) (pci string, usb bool) {
	link, err := h.ReadLink(path.Join(classNet, name))
	if err != nil {
		return "", false
	}
	for part := range strings.SplitSeq(link, "/") {
		if strings.HasPrefix(part, "usb") {
			return "", true
		}
		if isPCI(part) {
			pci = part
		}
	}
	return pci, false
}

// isPCI knows the form 0000:3b:00.0; domains may have more digits.
func isPCI(s string) bool {
	head, function, dot := strings.Cut(s, ".")
	parts := strings.Split(head, ":")
	return dot && len(function) == 1 && len(parts) == 3 && len(parts[0]) >= 4 && len(parts[1]) == 2 && len(parts[2]) == 2
}

// ask adds what only the kernel's other interfaces tell.
func (n *NIC) ask() {
	if link, err := netlink.LinkByName(n.Name); err == nil {
		n.Index = link.Attrs().Index
		n.Permanent = link.Attrs().PermHWAddr
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return
	}
	defer e.Close()
	if info, err := e.DriverInfo(n.Name); err == nil && info.FwVersion != "N/A" {
		n.Firmware = strings.TrimSpace(info.FwVersion)
	}
}

// Up switches the loopback interface and the given NICs on.
func Up(nics []NIC) error {
	names := []string{"lo"}
	for _, n := range nics {
		names = append(names, n.Name)
	}
	var errs []error
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("switch %s on: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// carrierPoll is how often a link's state is asked for. Drivers that announce no
// change exist, so waiting for announcements alone is not enough.
const carrierPoll = 100 * time.Millisecond

// waitCarrier waits until the NIC has a carrier, or ctx ends.
func waitCarrier(ctx context.Context, name string) error {
	for {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look at link %s: %w", name, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp || state == netlink.OperUnknown {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a carrier on %s (is the cable in?): %w", name, ctx.Err())
		case <-time.After(carrierPoll):
		}
	}
}
