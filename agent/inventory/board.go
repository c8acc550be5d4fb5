package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/jaypipes/ghw"
	"github.com/u-root/u-root/pkg/smbios"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// options keep ghw to this host's tree, silent, and without running programs.
func (k Collector) options() []any {
	return []any{ghw.WithChroot(k.Host.Path("/")), ghw.WithDisableTools(), ghw.WithDisableWarnings(),
		ghw.WithLogger(slog.New(slog.DiscardHandler))}
}

func (k Collector) cpu(_ context.Context, c *hardware.Collection) error {
	info, err := ghw.CPU(k.options()...)
	if err != nil {
		return err
	}
	c.Cpu = &hardware.CPU{Sockets: uint32(len(info.Processors)), Cores: info.TotalCores, Threads: info.TotalHardwareThreads}
	if len(info.Processors) > 0 {
		p := info.Processors[0]
		c.Cpu.Vendor, c.Cpu.Model = clean(p.Vendor, 256), clean(p.Model, 256)
		for _, flag := range p.Capabilities[:min(len(p.Capabilities), 512)] {
			c.Cpu.Flags = append(c.Cpu.Flags, clean(flag, 64))
		}
	}
	if khz, err := strconv.ParseUint(k.read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"), 10, 64); err == nil {
		c.Cpu.FrequencyHertz = khz * 1000
	}
	return nil
}

func (k Collector) memory(_ context.Context, c *hardware.Collection) error {
	c.Memory = &hardware.Memory{}
	data, err := k.Host.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	usable := meminfo(string(data), "MemTotal:")
	c.Memory.UsableBytes = usable
	info, err := ghw.Memory(k.options()...)
	if err != nil {
		return err
	}
	if info.TotalPhysicalBytes > 0 {
		c.Memory.TotalBytes = uint64(info.TotalPhysicalBytes)
	}
	return nil
}

// meminfo reads one line of /proc/meminfo or of a NUMA node's, in bytes.
func meminfo(text, name string) uint64 {
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, name); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseUint(f[0], 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// dimms reads SMBIOS type 17 (DSP0134 section 7.18).
func (k Collector) dimms(_ context.Context, c *hardware.Collection) error {
	entry, err := k.Host.ReadFile("/sys/firmware/dmi/tables/smbios_entry_point")
	if host.IsAbsent(err) {
		return errors.New("the kernel shows no SMBIOS tables")
	}
	if err != nil {
		return err
	}
	tables, err := k.Host.ReadFileMax("/sys/firmware/dmi/tables/DMI", 4<<20)
	if err != nil {
		return err
	}
	info, err := smbios.ParseInfo(entry, tables)
	if err != nil {
		return err
	}
	devices, err := info.GetMemoryDevices()
	if err != nil {
		return err
	}
	c.Memory = &hardware.Memory{}
	for _, d := range devices[:min(len(devices), maxList)] {
		dimm := &hardware.DIMM{Locator: clean(d.DeviceLocator, 64), SizeBytes: d.GetSizeBytes()}
		if dimm.SizeBytes > 0 {
			dimm.SpeedMegatransfers = uint32(d.Speed)
			dimm.Type = clean(d.Type.String(), 32)
			dimm.Vendor, dimm.Serial = placeholder(clean(d.Manufacturer, 64)), placeholder(clean(d.SerialNumber, 64))
			dimm.PartNumber = placeholder(clean(d.PartNumber, 64))
		}
		c.Memory.Dimms = append(c.Memory.Dimms, dimm)
	}
	return nil
}

func (k Collector) numa(_ context.Context, c *hardware.Collection) error {
	nodes, err := k.Host.Glob("/sys/devices/system/node/node[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range nodes[:min(len(nodes), 1024)] {
		id, err := strconv.ParseUint(strings.TrimPrefix(dir, "/sys/devices/system/node/node"), 10, 32)
		if err != nil {
			continue
		}
		node := &hardware.NUMANode{Id: uint32(id)}
		if data, err := k.Host.ReadFile(dir + "/meminfo"); err == nil {
			node.MemoryBytes = meminfo(string(data), "MemTotal:")
		}
		if list, err := k.Host.ReadString(dir + "/cpulist"); err == nil {
			node.Cpus = ranges(list)
		}
		for _, d := range strings.Fields(k.read(dir + "/distance")) {
			if n, err := strconv.ParseUint(d, 10, 32); err == nil {
				node.Distances = append(node.Distances, uint32(n))
			}
		}
		c.NumaNodes = append(c.NumaNodes, node)
	}
	return nil
}

// ranges reads the kernel's lists such as "0-3,8".
func ranges(list string) []uint32 {
	var out []uint32
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := first; n <= last && len(out) < 1<<16; n++ {
			out = append(out, uint32(n))
		}
	}
	return out
}

// pci lists devices from sysfs; ghw names them from pci.ids, where that file is.
func (k Collector) pci(_ context.Context, c *hardware.Collection) error {
	addresses, err := k.Host.ReadDir("/sys/bus/pci/devices")
	if host.IsAbsent(err) {
		return nil // a machine without the bus, as some virtual ones are
	}
	if err != nil {
		return err
	}
	byAddress := map[string]*hardware.PCIDevice{}
	for _, a := range addresses[:min(len(addresses), maxList)] {
		byAddress[a] = k.pciDevice(a)
		c.PciDevices = append(c.PciDevices, byAddress[a])
	}
	info, err := ghw.PCI(k.options()...)
	if err != nil {
		return fmt.Errorf("names are not known: %w", err)
	}
	for _, d := range info.Devices {
		out := byAddress[d.Address]
		if out != nil && d.Vendor != nil {
			out.Vendor = clean(d.Vendor.Name, 128)
		}
		if out != nil && d.Product != nil {
			out.Product = clean(d.Product.Name, 128)
		}
	}
	return nil
}

func (k Collector) pciDevice(address string) *hardware.PCIDevice {
	dir := "/sys/bus/pci/devices/" + address
	hex := func(name string) string { return strings.TrimPrefix(k.read(dir+"/"+name), "0x") }
	d := &hardware.PCIDevice{Address: address, Class: hex("class"), VendorId: hex("vendor"), ProductId: hex("device")}
	if link, err := k.Host.ReadLink(dir + "/driver"); err == nil {
		d.Driver = link[strings.LastIndexByte(link, '/')+1:]
	}
	if n, err := strconv.ParseInt(k.read(dir+"/numa_node"), 10, 32); err == nil && n >= 0 {
		node := int32(n)
		d.NumaNode = &node
	}
	return d
}
