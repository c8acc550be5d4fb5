// Package ipmi lets a simulated machine be driven by IPMI 2.0: over LAN
// (RMCP+, cipher suites 3 and 17) and from inside the guest, by QEMU's
// external BMC protocol, so that /dev/ipmi0 works there.
//
// Sessions, users, framing and the storage commands are go-ipmi's reference
// BMC. The chassis commands are ours, because they carry what a controller
// must survive: boot flags that run out (IPMI 2.0, table 28-14), requests
// refused in the wrong power state, and the fault script.
package ipmi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/bougou/go-ipmi/pkg/vmproto"

	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

// Identity is what the BMC says about itself and the board.
type Identity struct {
	Manufacturer, Product, Serial string
	UUID                          [16]byte         // as Get Device GUID returns it
	MAC                           net.HardwareAddr // of the BMC's own NIC; nil: 52:54:00:be:ef:01
}

// Config of a Server. Machine, User and Password are required.
type Config struct {
	Machine  *machine.Machine
	Addr     string // UDP, such as "10.99.0.10:623"; port 0 takes a free one
	VMSocket string // Unix socket for QEMU's ipmi-bmc-extern; empty: none
	User     string // at most 16 bytes
	Password string // at most 20 bytes
	Identity Identity
	Console  hal.ConsoleHAL // for serial over LAN; nil: none
	Log      *slog.Logger
}

// Server is an IPMI BMC for one machine.
type Server struct {
	cfg   Config
	m     *machine.Machine
	bmc   *bmc.BMC
	conn  *lossyConn
	srv   *server.Server
	vmLn  net.Listener
	vmReg *handlers.Registry

	wg     sync.WaitGroup
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows
	rules    machine.ClearRules
	bootInfo [2]byte // parameter 4, boot info acknowledge
	downTill time.Time
}

// Listen binds the sockets; nothing is answered before Start.
func Listen(cfg Config) (*Server, error) {
	if cfg.Machine == nil || cfg.User == "" {
		return nil, errors.New("ipmi: machine and user are required")
	}
	if len(cfg.User) > 16 || len(cfg.Password) > 20 {
		return nil, fmt.Errorf("ipmi: user %q or its password is too long (16 and 20 bytes)", cfg.User)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, m: cfg.Machine}
	conn, err := listenLossy(cfg.Addr, s)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	if cfg.VMSocket != "" {
		if s.vmLn, err = net.Listen("unix", cfg.VMSocket); err != nil {
			conn.Close()
			return nil, fmt.Errorf("listen for QEMU's BMC link: %w", err)
		}
	}
	if err := s.build(); err != nil {
		s.closeSockets()
		return nil, err
	}
	return s, nil
}

func (s *Server) build() error {
	h, err := newHAL(s.cfg, s.conn.port())
	if err != nil {
		return err
	}
	s.bmc = bmc.New(bmc.DeviceInfo{
		DeviceID: 0x20, DeviceRevision: 1, FirmwareMajor: 1, FirmwareMinor: 0x10, IPMIVersion: 0x02,
		ManufacturerID: 343, ProductID: 0x1067, AdditionalDeviceSupport: 0x81,
	}, s.cfg.Identity.UUID, h)
	u, err := s.bmc.Users.Add(2, s.cfg.User)
	if err != nil {
		return fmt.Errorf("ipmi: add user: %w", err)
	}
	u.SetPassword([]byte(s.cfg.Password))
	u.Enabled = true
	u.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}
	// The null user with an empty password is how real BMCs get lost; off.
	if err := s.bmc.Users.Update(1, func(u *bmc.User) error { u.Enabled = false; return nil }); err != nil {
		return fmt.Errorf("ipmi: disable the null user: %w", err)
	}
	s.srv = server.NewServer(s.bmc, s.conn, server.WithHandlerRegistry(s.registry()))
	s.vmReg = s.registry()
	return nil
}

// Start answers until Close.
func (s *Server) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.wg.Go(func() {
		if err := s.srv.Serve(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.cfg.Log.Error("serve IPMI", "err", err)
		}
	})
	if s.vmLn == nil {
		return
	}
	s.wg.Go(func() {
		vm := vmproto.NewVMServer(s.bmc, vmproto.WithVMHandlerRegistry(s.vmReg))
		if err := vm.Serve(ctx, s.vmLn); err != nil && !errors.Is(err, context.Canceled) {
			s.cfg.Log.Error("serve QEMU's BMC link", "err", err)
		}
	})
}

// Close stops answering and waits for the servers' goroutines.
func (s *Server) Close() error {
	if s.cancel != nil {
		s.cancel()
	}
	err := s.srv.Close()
	if s.vmLn != nil {
		s.vmLn.Close()
	}
	s.wg.Wait()
	return err
}

func (s *Server) closeSockets() {
	s.conn.Close()
	if s.vmLn != nil {
		s.vmLn.Close()
	}
}

// Addr is the UDP address answered on.
func (s *Server) Addr() string { return s.conn.LocalAddr().String() }

// Reset makes the BMC itself restart: sessions are forgotten, flags kept.
func (s *Server) Reset() {
	s.mu.Lock()
	s.downTill = time.Now().Add(s.m.Faults().Get().UnavailableFor)
	s.rules = machine.ClearRules{}
	s.mu.Unlock()
}

func (s *Server) down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.downTill)
}

// registry has every command of the reference BMC, ours in place of its
// chassis commands, and the fault script around all of them.
func (s *Server) registry() *handlers.Registry {
	reg := handlers.NewRegistry()
	reg.Use(func(next handlers.Handler) handlers.Handler {
		return handlers.HandlerFunc(func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
			inSession := h != nil && h.Session != nil
			if inSession && s.m.Faults().Take(busy) {
				return nil, types.CodeNodeBusy, nil
			}
			return next.Handle(ctx, h, req)
		})
	})
	handlers.RegisterAllHandlers(reg)
	reg.RegisterFunc(types.CommandGetChassisStatus, s.chassisStatus)
	reg.RegisterFunc(types.CommandChassisControl, s.chassisControl)
	reg.RegisterFunc(types.CommandGetSystemRestartCause, s.restartCause)
	reg.RegisterFunc(types.CommandSetSystemBootOptions, s.setBootOption)
	reg.RegisterFunc(types.CommandGetSystemBootOptions, s.getBootOption)
	reg.RegisterFunc(types.CommandGetSystemGUID, s.systemGUID)
	// The reference BMC resets the *system* here; this command resets the BMC.
	reg.RegisterFunc(types.CommandColdReset, s.resetBMC)
	reg.RegisterFunc(types.CommandWarmReset, s.resetBMC)
	return reg
}
