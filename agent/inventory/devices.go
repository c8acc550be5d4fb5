package inventory

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/network"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// maxNICs bounds what is told of.
const maxNICs = 512

// PermanentMAC is the address burnt in. Where the driver does not tell, it is the
// one in force as long as nobody has set that (NET_ADDR_PERM); else nil.
func PermanentMAC(h host.Host, n network.NIC) net.HardwareAddr {
	if len(n.Permanent) > 0 {
		return n.Permanent
	}
	if assigned, err := h.ReadString("/sys/class/net/" + n.Name + "/addr_assign_type"); err == nil && assigned == "0" {
		return n.MAC
	}
	return nil
}

func (k Collector) nic(n network.NIC) *hardware.NIC {
	out := &hardware.NIC{Name: n.Name, Mac: n.MAC.String(), PermanentMac: PermanentMAC(k.Host, n).String(), SpeedBitsPerSecond: n.Speed,
		LinkUp: n.LinkUp, Driver: n.Driver, Firmware: n.Firmware, PciAddress: n.PCIAddress, MtuBytes: uint32(max(n.MTU, 0))}
	out.BootNic = k.BootMAC != "" && (strings.EqualFold(out.Mac, k.BootMAC) || strings.EqualFold(out.PermanentMac, k.BootMAC))
	return out
}

func (k Collector) nics(ctx context.Context, c *hardware.Collection) error {
	nics, err := network.List(k.Host)
	if err != nil {
		return err
	}
	var neighbours map[string][]*hardware.LLDPNeighbour
	if k.Neighbours != nil {
		neighbours, err = k.Neighbours(ctx)
	}
	for _, n := range nics[:min(len(nics), maxNICs)] {
		out := k.nic(n)
		out.Neighbours = neighbours[n.Name]
		out.Addresses = addresses(n.Name)
		c.Nics = append(c.Nics, out)
	}
	return err
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
