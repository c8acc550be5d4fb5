package inventory

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/safchain/ethtool"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

const maxNICs = 512

var pciAddress = regexp.MustCompile(`/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:/|$)`)

// NICs lists the network interfaces that are hardware, ordered by name, without
// neighbours. An error is about single values; the NICs are there all the same.
func NICs(h host.Host) ([]*hardware.NIC, error) {
	names, err := h.ReadDir("/sys/class/net")
	if err != nil {
		return nil, err
	}
	tool, toolErr := ethtool.NewEthtool()
	if toolErr == nil {
		defer tool.Close()
	}
	k := Collector{Host: h}
	var nics []*hardware.NIC
	for _, name := range names {
		dir := "/sys/class/net/" + name
		if !h.Exists(dir+"/device") || len(nics) == maxNICs {
			continue // bridges, VLANs, loopback
		}
		n := k.nic(dir, name)
		if toolErr == nil {
			ask(tool, n)
		}
		// A driver may not tell; the address in force is the permanent one as
		// long as nobody has set it (NET_ADDR_PERM).
		if n.PermanentMac == "" && k.read(dir+"/addr_assign_type") == "0" {
			n.PermanentMac = n.Mac
		}
		nics = append(nics, n)
	}
	return nics, toolErr
}

// nic reads what sysfs tells.
func (k Collector) nic(dir, name string) *hardware.NIC {
	n := &hardware.NIC{Name: name, Mac: k.read(dir + "/address"), LinkUp: k.read(dir+"/carrier") == "1"}
	if mbit, err := strconv.ParseInt(k.read(dir+"/speed"), 10, 64); err == nil && mbit > 0 && n.LinkUp {
		n.SpeedBitsPerSecond = uint64(mbit) * 1_000_000
	}
	if mtu, err := strconv.ParseUint(k.read(dir+"/mtu"), 10, 32); err == nil {
		n.MtuBytes = uint32(mtu)
	}
	if link, err := k.Host.ReadLink(dir + "/device/driver"); err == nil {
		n.Driver = filepath.Base(link)
	}
	// The device of a virtio NIC is the virtio device, whose parent is the PCI one.
	if real, err := filepath.EvalSymlinks(k.Host.Path(dir + "/device")); err == nil {
		if all := pciAddress.FindAllStringSubmatch(real, -1); len(all) > 0 {
			n.PciAddress = all[len(all)-1][1]
		}
	}
	return n
}

// ask adds what only the driver knows. A driver without that call is usual and
// no error.
func ask(tool *ethtool.Ethtool, n *hardware.NIC) {
	if mac, err := tool.PermAddr(n.Name); err == nil {
		if hw, err := net.ParseMAC(mac); err == nil && !isZero(hw) {
			n.PermanentMac = hw.String()
		}
	}
	if info, err := tool.DriverInfo(n.Name); err == nil {
		n.Firmware = clean(info.FwVersion, 64)
		if n.Driver == "" {
			n.Driver = clean(info.Driver, 64)
		}
	}
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) }

func (k Collector) nics(ctx context.Context, c *hardware.Collection) error {
	nics, err := NICs(k.Host)
	errs := []error{err}
	var neighbours map[string][]*hardware.LLDPNeighbour
	if k.Neighbours != nil {
		neighbours, err = k.Neighbours(ctx)
		errs = append(errs, err)
	}
	for _, n := range nics {
		n.BootNic = k.BootMAC != "" && (strings.EqualFold(n.Mac, k.BootMAC) || strings.EqualFold(n.PermanentMac, k.BootMAC))
		n.Neighbours = neighbours[n.Name]
		n.Addresses = addresses(n.Name)
	}
	c.Nics = nics
	return errors.Join(errs...)
}

func addresses(name string) []string {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	all, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range all[:min(len(all), 64)] {
		out = append(out, a.String())
	}
	return out
}

// nameNICs takes vendor and product from the PCI devices.
func (k Collector) nameNICs(c *hardware.Collection) {
	for _, n := range c.Nics {
		i := slices.IndexFunc(c.PciDevices, func(p *hardware.PCIDevice) bool { return p.Address == n.PciAddress })
		if i >= 0 {
			n.Vendor, n.Product = c.PciDevices[i].Vendor, c.PciDevices[i].Product
		}
	}
}

// disks asks all disks at once for their health, since a sick one is slow.
func (k Collector) disks(_ context.Context, c *hardware.Collection) error {
	disks, err := disk.List(k.Host)
	if err != nil {
		return err
	}
	var (
		wait sync.WaitGroup
		slot = make(chan struct{}, 8)
		errs = make([]error, 2*len(disks))
	)
	for i, d := range disks {
		wait.Go(func() {
			slot <- struct{}{}
			defer func() { <-slot }()
			d.Info.Signatures, errs[2*i] = d.Signatures()
			d.Info.Health, errs[2*i+1] = d.Health()
		})
	}
	wait.Wait()
	for i, d := range disks {
		c.Disks = append(c.Disks, d.Info)
		if err := errors.Join(errs[2*i], errs[2*i+1]); err != nil {
			c.Errors = append(c.Errors, failure("disk "+d.Name(), err))
		}
	}
	return nil
}
