package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/tools/bmcsim"
	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
	bmcmachine "github.com/ingot-metal/ingot/tools/bmcsim/machine"
	"github.com/ingot-metal/ingot/tools/bmcsim/vm"
	"github.com/ingot-metal/ingot/vmtest/disk"
	"github.com/ingot-metal/ingot/vmtest/lan"
	"github.com/ingot-metal/ingot/vmtest/qemu"
)

// Spec describes a machine of the lab.
type Spec struct {
	Name     string
	Firmware qemu.Firmware
	// ROM leaves QEMU's iPXE in the network card; without it a UEFI machine
	// boots by the firmware's own PXE or HTTP. BIOS always has it.
	ROM       bool
	Disks     []DiskSpec
	NICs      int    // zero means 1
	Protocol  string // ipmi (default) or redfish
	Tree      string // a vendor's Redfish tree; empty: the built-in one
	MemoryMiB int    // zero means 1024
	UUID      uuid.UUID
}

// DiskSpec describes a disk.
type DiskSpec struct {
	Bus        qemu.Bus
	SizeBytes  int64
	SectorSize int // zero means 512
}

// Credentials of every BMC of a lab.
const (
	BMCUser     = "ingot"
	BMCPassword = "lab-secret"
)

// Machine is one machine with its BMC, disks and console.
type Machine struct {
	Spec    Spec
	Dir     string // console log, variables, disks, ground truth
	MACs    []net.HardwareAddr
	BMC     *bmcsim.BMC
	BMCURL  string
	Faults  *fault.Switch
	Disks   []*disk.Disk
	Serials []string // of the disks
	Console *qemu.Console
	board   *bmcmachine.Machine
	vm      *vm.Hardware
}

func newMachine(net *lan.LAN, cfg Config, index int, spec Spec) (_ *Machine, err error) {
	m := &Machine{Spec: spec, Faults: new(fault.Switch)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	dir := filepath.Join(cfg.Dir, spec.Name)
	m.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if m.Console, err = qemu.NewConsole(filepath.Join(dir, "console.log")); err != nil {
		return nil, err
	}
	hw := qemu.Config{
		Name: spec.Name, UUID: spec.UUID, Serial: "LAB" + spec.Name, MemoryMiB: spec.MemoryMiB, CPUs: 2,
		Firmware: spec.Firmware, Dir: dir, Console: m.Console, Log: cfg.Log,
		IPMI: filepath.Join(dir, "ipmi.sock"),
	}
	if hw.UUID == uuid.Nil {
		hw.UUID = uuid.NewSHA1(uuid.NameSpaceOID, []byte("ingot lab "+spec.Name))
	}
	if err := m.addNICs(net, index, &hw); err != nil {
		return nil, err
	}
	if err := m.addDisks(dir, &hw, cfg); err != nil {
		return nil, err
	}
	if m.vm, err = vm.New(hw, m.Disks, uint64(index)+1); err != nil {
		return nil, err
	}
	return m, m.addBMC(net, index, dir, hw, cfg)
}

func (m *Machine) addNICs(network *lan.LAN, index int, hw *qemu.Config) error {
	for n := range max(m.Spec.NICs, 1) {
		tap := fmt.Sprintf("tap%d-%d", index, n)
		if err := network.AddTap(tap); err != nil {
			return err
		}
		// A vendor's prefix, not a locally administered address: those identify
		// no machine.
		mac := net.HardwareAddr{0x00, 0x16, 0x3e, 0x49, byte(index), byte(n)}
		m.MACs = append(m.MACs, mac)
		hw.NICs = append(hw.NICs, qemu.NIC{MAC: mac, Tap: tap, PXEROM: m.Spec.ROM || !m.Spec.Firmware.UEFI()})
	}
	return nil
}

func (m *Machine) addDisks(dir string, hw *qemu.Config, cfg Config) error {
	for n, spec := range m.Spec.Disks {
		serial := fmt.Sprintf("%s-disk%d", m.Spec.Name, n)
		d, err := disk.Open(disk.Config{
			Path: filepath.Join(dir, fmt.Sprintf("disk%d.raw", n)), Socket: filepath.Join(dir, fmt.Sprintf("disk%d.sock", n)),
			Size: spec.SizeBytes, SectorSize: spec.SectorSize, Seed: uint64(n) + 1, Log: cfg.Log,
		})
		if err != nil {
			return err
		}
		m.Disks, m.Serials = append(m.Disks, d), append(m.Serials, serial)
		hw.Disks = append(hw.Disks, qemu.Disk{Bus: spec.Bus, Serial: serial, NBD: d.Socket(), SectorSize: spec.SectorSize})
	}
	return nil
}

func (m *Machine) addBMC(network *lan.LAN, index int, dir string, hw qemu.Config, cfg Config) error {
	ip := netip.AddrFrom4([4]byte{10, 99, 0, byte(firstBMC + index)})
	if err := network.AddAddress(netip.PrefixFrom(ip, 24)); err != nil {
		return err
	}
	firmware := bmcmachine.UEFI
	if !m.Spec.Firmware.UEFI() {
		firmware = bmcmachine.BIOS
	}
	var err error
	m.board, err = bmcmachine.New(bmcmachine.Config{
		Hardware: m.vm, Firmware: firmware, Faults: m.Faults, Record: filepath.Join(dir, "truth.json"), Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	m.BMC, err = bmcsim.New(bmcsim.Config{
		Machine: m.board, User: BMCUser, Password: BMCPassword, VMSocket: hw.IPMI, Tree: m.Spec.Tree, Log: cfg.Log,
		IPMIAddr: ip.String() + ":623", RedfishAddr: ip.String() + ":443",
		Identity: bmcsim.Identity{Serial: hw.Serial, UUID: hw.UUID, MACs: m.MACs, MemoryMiB: max(hw.MemoryMiB, 1024), CPUs: hw.CPUs},
	})
	if err != nil {
		return err
	}
	m.BMCURL = "ipmi://" + ip.String()
	if m.Spec.Protocol == "redfish" {
		m.BMCURL = "redfish://" + ip.String()
	}
	return m.BMC.Start()
}

// Truth is what really happened to the machine.
func (m *Machine) Truth() bmcmachine.Snapshot { return m.board.Snapshot() }

// Board is the machine as its BMC controls it.
func (m *Machine) Board() *bmcmachine.Machine { return m.board }

// PullPlug cuts the power: disks lose what was not flushed.
func (m *Machine) PullPlug() error { return m.board.PullPlug() }

func (m *Machine) close() error {
	var errs []error
	if m.BMC != nil {
		errs = append(errs, m.BMC.Close())
	}
	for _, d := range m.Disks {
		errs = append(errs, d.Close())
	}
	if m.Console != nil {
		errs = append(errs, m.Console.Close())
	}
	return errors.Join(errs...)
}
