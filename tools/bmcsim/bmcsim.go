// Package bmcsim is a BMC for machines that have none: real IPMI over LAN and
// real Redfish, driving one machine (package machine), which is a QEMU
// process (package vm) or a pretence in memory. It also keeps the ground
// truth of what happened to the machine, which tests compare with what the
// controller believes.
//
// A pretend machine for a test of power drivers:
//
//	b, err := bmcsim.New(bmcsim.Config{User: "admin", Password: "secret"})
//	err = b.Start()
//	defer b.Close()
//	... b.IPMIAddr(), b.RedfishURL(), b.Machine().Wait(...), b.Faults().Set(...)
package bmcsim

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
	"github.com/ingot-metal/ingot/tools/bmcsim/ipmi"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
	"github.com/ingot-metal/ingot/tools/bmcsim/redfish"
)

// Config of a BMC. User and Password are required, the rest has defaults.
type Config struct {
	// Machine that is controlled; nil makes one on pretend hardware, which
	// BMC.Pretend then returns. The BMC starts and closes it.
	Machine *machine.Machine

	IPMIAddr    string // UDP; empty: 127.0.0.1:0; "off": no IPMI
	RedfishAddr string // TCP; empty: 127.0.0.1:0; "off": no Redfish
	VMSocket    string // Unix socket for QEMU's ipmi-bmc-extern; empty: none
	User        string // at most 16 bytes
	Password    string // at most 20 bytes

	// Tree is a vendor's Redfish tree (a tar.gz); empty: the built-in one.
	Tree        string
	Identity    Identity
	Certificate *tls.Certificate // nil: self-signed
	Log         *slog.Logger     // nil discards
}

// Identity is how the BMC names its machine. Empty fields keep the tree's.
type Identity struct {
	Manufacturer, Model, Serial string
	UUID                        uuid.UUID
	MACs                        []net.HardwareAddr // of the machine's NICs
	BMCMAC                      net.HardwareAddr
	MemoryMiB, CPUs             int
}

// BMC is one simulated BMC.
type BMC struct {
	cfg     Config
	m       *machine.Machine
	pretend *machine.Pretend
	ipmi    *ipmi.Server
	redfish *redfish.Server
}

// New binds the sockets, so that the addresses are known; nothing is
// answered before Start.
func New(cfg Config) (*BMC, error) {
	if cfg.User == "" {
		return nil, errors.New("bmcsim: no user given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &BMC{cfg: cfg, m: cfg.Machine}
	if b.m == nil {
		b.pretend = new(machine.Pretend)
		m, err := machine.New(machine.Config{Hardware: b.pretend, Log: cfg.Log})
		if err != nil {
			return nil, err
		}
		b.m = m
	}
	if err := b.listen(); err != nil {
		b.closeServers()
		return nil, err
	}
	return b, nil
}

func (b *BMC) listen() (err error) {
	const free = "127.0.0.1:0"
	id := b.cfg.Identity
	if b.cfg.IPMIAddr != "off" {
		b.ipmi, err = ipmi.Listen(ipmi.Config{
			Machine: b.m, Addr: or(b.cfg.IPMIAddr, free), VMSocket: b.cfg.VMSocket,
			User: b.cfg.User, Password: b.cfg.Password, Log: b.cfg.Log,
			Identity: ipmi.Identity{
				Manufacturer: or(id.Manufacturer, "Ingot"), Product: or(id.Model, "Lab machine"), Serial: or(id.Serial, "none"),
				UUID: guid(id.UUID), MAC: id.BMCMAC,
			},
		})
		if err != nil {
			return err
		}
	}
	if b.cfg.RedfishAddr == "off" {
		return nil
	}
	cfg := redfish.Config{
		Machine: b.m, Addr: or(b.cfg.RedfishAddr, free), User: b.cfg.User, Password: b.cfg.Password,
		Certificate: b.cfg.Certificate, Log: b.cfg.Log,
		Identity: redfish.Identity{
			Manufacturer: id.Manufacturer, Model: id.Model, Serial: id.Serial,
			MACs: id.MACs, MemoryMiB: id.MemoryMiB, CPUs: id.CPUs,
		},
	}
	if id.UUID != uuid.Nil {
		cfg.Identity.UUID = id.UUID.String()
	}
	if b.ipmi != nil {
		cfg.ResetBMC = b.ipmi.Reset
	}
	if b.cfg.Tree != "" {
		if cfg.Tree, err = redfish.Load(b.cfg.Tree); err != nil {
			return err
		}
	}
	b.redfish, err = redfish.Listen(cfg)
	return err
}

// guid turns an RFC 4122 UUID into the order of Get Device GUID (IPMI 2.0,
// section 20.8): least significant byte first.
func guid(id uuid.UUID) [16]byte {
	var g [16]byte
	for i := range id {
		g[i] = id[15-i]
	}
	if id == uuid.Nil {
		binary.LittleEndian.PutUint32(g[:], 0x1d90f0)
	}
	return g
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Start powers nothing on; it lets the BMC answer until Close.
func (b *BMC) Start() error {
	if err := b.m.Start(); err != nil {
		return err
	}
	if b.ipmi != nil {
		b.ipmi.Start()
	}
	if b.redfish != nil {
		b.redfish.Start()
	}
	return nil
}

// Run is Start, then Close when ctx ends.
func (b *BMC) Run(ctx context.Context) error {
	if err := b.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	return b.Close()
}

// Close stops answering, kills the machine and waits for both.
func (b *BMC) Close() error {
	err := b.closeServers()
	if err2 := b.m.Close(); err2 != nil {
		err = errors.Join(err, fmt.Errorf("close machine: %w", err2))
	}
	return err
}

func (b *BMC) closeServers() error {
	var errs []error
	if b.ipmi != nil {
		errs = append(errs, b.ipmi.Close())
	}
	if b.redfish != nil {
		errs = append(errs, b.redfish.Close())
	}
	return errors.Join(errs...)
}

// IPMIAddr is the UDP address answered on, "" without IPMI.
func (b *BMC) IPMIAddr() string {
	if b.ipmi == nil {
		return ""
	}
	return b.ipmi.Addr()
}

// RedfishURL is the base URL, such as https://127.0.0.1:8443, "" without.
func (b *BMC) RedfishURL() string {
	if b.redfish == nil {
		return ""
	}
	return b.redfish.URL()
}

// Machine is the machine behind the BMC.
func (b *BMC) Machine() *machine.Machine { return b.m }

// Pretend is the hardware when Config had no Machine, else nil.
func (b *BMC) Pretend() *machine.Pretend { return b.pretend }

// Faults is the fault script of machine and protocols.
func (b *BMC) Faults() *fault.Switch { return b.m.Faults() }
