package lan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config of a LAN; the zero value is good.
type Config struct {
	Bridge string       // zero means br0
	Addr   netip.Prefix // of the bridge; zero means 10.99.0.1/24
	Log    *slog.Logger
}

// LAN is the bridge of this process's namespace. Its methods may be called
// concurrently. Nothing has to be torn down by name: all of it goes with the
// namespace.
type LAN struct {
	cfg    Config
	bridge netlink.Link

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// bridgeMAC is fixed, because a bridge otherwise takes the lowest MAC of its
// ports, and the server's address would change as taps come and go.
var bridgeMAC = net.HardwareAddr{0x52, 0x54, 0x00, 0x99, 0x00, 0x01}

// Up brings up loopback and the bridge. It refuses to work anywhere but in a
// process started by Command.
func Up(cfg Config) (*LAN, error) {
	if cfg.Bridge == "" {
		cfg.Bridge = "br0"
	}
	if !cfg.Addr.IsValid() {
		cfg.Addr = netip.MustParsePrefix("10.99.0.1/24")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if parent := os.Getenv(envParent); parent == "" || parent == namespace() {
		return nil, errors.New("lan: not in a network namespace of our own; start this process with lan.Command")
	}
	l := &LAN{cfg: cfg}
	if err := l.up(); err != nil {
		return nil, Explain(err)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

func (l *LAN) up() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	// Without snooping, multicast (router advertisements, LLDP's kin) floods
	// as it does on a plain switch.
	snoop := false
	br := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: l.cfg.Bridge, HardwareAddr: bridgeMAC},
		MulticastSnooping: &snoop,
	}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("make bridge %s: %w", l.cfg.Bridge, err)
	}
	l.bridge = br
	if err := l.AddAddress(l.cfg.Addr); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return fmt.Errorf("bring up %s: %w", l.cfg.Bridge, err)
	}
	return nil
}

// Close ends forwards and waits for them.
func (l *LAN) Close() error {
	l.cancel()
	l.wg.Wait()
	return nil
}

// Bridge is the interface's name.
func (l *LAN) Bridge() string { return l.cfg.Bridge }

// Addr is the bridge's first address, the server's.
func (l *LAN) Addr() netip.Prefix { return l.cfg.Addr }

// AddAddress puts another address on the bridge, such as a BMC's.
func (l *LAN) AddAddress(p netip.Prefix) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if err := netlink.AddrAdd(l.bridge, a); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, l.cfg.Bridge, err)
	}
	return nil
}

// AddTap makes a tap, plugs it into the bridge and brings it up. QEMU opens it
// by name (at most 15 bytes).
func (l *LAN) AddTap(name string) error {
	t := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		// Ours, because a namespace of an ordinary user knows no other id.
		Owner: uint32(os.Getuid()), Group: uint32(os.Getgid()),
	}
	err := netlink.LinkAdd(t)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("make tap %s: /dev/net/tun is missing or closed to this user; `sudo modprobe tun && sudo chmod 0666 /dev/net/tun` (udev's default) or run this with sudo: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("make tap %s: %w", name, err)
	}
	if err := netlink.LinkSetMaster(t, l.bridge); err != nil {
		return fmt.Errorf("plug tap %s into %s: %w", name, l.cfg.Bridge, err)
	}
	if err := netlink.LinkSetUp(t); err != nil {
		return fmt.Errorf("bring up tap %s: %w", name, err)
	}
	return nil
}

// RemoveTap undoes AddTap.
func (l *LAN) RemoveTap(name string) error {
	t, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find tap %s: %w", name, err)
	}
	if err := netlink.LinkDel(t); err != nil {
		return fmt.Errorf("remove tap %s: %w", name, err)
	}
	return nil
}

// SetCable pulls the cable of a tap, or plugs it in again: the switch port
// goes down; the guest's NIC keeps its link, as behind a dumb media converter.
func (l *LAN) SetCable(tap string, in bool) error {
	t, err := netlink.LinkByName(tap)
	if err != nil {
		return fmt.Errorf("find tap %s: %w", tap, err)
	}
	if in {
		err = netlink.LinkSetUp(t)
	} else {
		err = netlink.LinkSetDown(t)
	}
	if err != nil {
		return fmt.Errorf("set cable of %s: %w", tap, err)
	}
	return nil
}

// Forward copies each connection to ln (usually Inherited from the host's
// namespace) to an address in here, until Close. It closes ln.
func (l *LAN) Forward(ln net.Listener, to string) {
	l.wg.Go(func() {
		<-l.ctx.Done()
		ln.Close()
	})
	l.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				if l.ctx.Err() == nil {
					l.cfg.Log.Error("accept forwarded connection", "err", err)
				}
				return
			}
			l.wg.Go(func() { l.splice(c, to) })
		}
	})
}

func (l *LAN) splice(c net.Conn, to string) {
	defer c.Close()
	d := net.Dialer{Timeout: 10 * time.Second}
	peer, err := d.DialContext(l.ctx, "tcp", to)
	if err != nil {
		l.cfg.Log.Warn("forward connection", "to", to, "err", err)
		return
	}
	defer peer.Close()
	stop := context.AfterFunc(l.ctx, func() { c.Close(); peer.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pump(peer, c) })
	both.Go(func() { pump(c, peer) })
	both.Wait()
}

// pump copies until src ends and passes the end on, so that half-closed
// connections work.
func pump(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if h, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}
