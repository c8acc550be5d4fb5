package dhcp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"

	"github.com/ingot-metal/ingot/controller/boot/ra"
)

const inNamespace = "INGOT_TEST_IN_NETNS"

// TestRealSockets runs itself again in a network namespace of its own, where
// two ends of a cable stand for a controller and a machine. It needs root or
// unprivileged user namespaces, and fails where neither is to be had.
func TestRealSockets(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		inside(t)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestRealSockets$", "-test.timeout=60s", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a network namespace (root or unprivileged user namespaces are needed): %v\n%s", err, out)
	}
}

func inside(t *testing.T) {
	cable(t)
	self := server.Addr()
	t.Run("another server is seen", func(t *testing.T) {
		other := foreign(t)
		got, err := Probe(t.Context(), "srv0", self, 4*time.Second)
		if err != nil || got != other {
			t.Errorf("got %v, %v; want %s", got, err, other)
		}
	})
	t.Run("lease over real sockets after an unanswered look-out", lease)
	t.Run("router solicitation is answered", solicit)
}

// cable makes srv0 (ours, 10.0.0.1/24) and cli0, joined.
func cable(t *testing.T) {
	t.Helper()
	// Without duplicate address detection, link-local addresses are there at once.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "srv0"}, PeerName: "cli0"}); err != nil {
		t.Fatalf("make a cable: %v", err)
	}
	for _, name := range []string{"lo", "srv0", "cli0"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "srv0" {
			a, err := netlink.ParseAddr(server.String())
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
}

// foreign starts somebody else's DHCP server on the far end.
func foreign(t *testing.T) netip.Addr {
	t.Helper()
	other := netip.MustParseAddr("10.0.0.99")
	conn, err := Listen("cli0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server4.NewServer("cli0", nil, func(c net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
		r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithYourIP(net.IP{10, 0, 0, 50}),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(other.AsSlice())))
		if err == nil {
			_, _ = c.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
		}
	}, server4.WithConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve() }() // ends by Close
	t.Cleanup(func() { srv.Close(); <-done })
	return other
}

func lease(t *testing.T) {
	conn, err := Listen("srv0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Interface: "srv0", Address: server, Leases: newBook(time.Now), Directory: targets{}, Log: slog.New(slog.DiscardHandler)}, conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	c, err := nclient4.New("cli0", nclient4.WithTimeout(time.Second), nclient4.WithRetry(10))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Request(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if a := addr(got.ACK.YourIPAddr); !a.IsValid() || a.Less(netip.MustParseAddr("10.0.0.10")) || got.ACK.IPAddressLeaseTime(0) != 12*time.Hour {
		t.Errorf("got %s, want an address of the range for 12 hours", got.ACK)
	}
	// Our look-out from the other side hears nothing of a server of ours.
	if other, err := Probe(ctx, "cli0", netip.MustParseAddr("10.0.0.2"), 200*time.Millisecond); err != nil || other.IsValid() {
		t.Errorf("got %v, %v; want our own servers not to count", other, err)
	}
}

func solicit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ra.Run(ctx, "srv0", slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	ifi, err := net.InterfaceByName("cli0")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 50 {
		if err := c.WriteTo(&ndp.RouterSolicitation{}, nil, netip.MustParseAddr("ff02::2")); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			m, _, _, err := c.ReadFrom()
			if err != nil {
				break
			}
			if adv, ok := m.(*ndp.RouterAdvertisement); ok {
				if adv.RouterLifetime != 0 || len(adv.Options) != 0 || adv.ManagedConfiguration {
					t.Errorf("got %+v, want an advertisement that configures nothing", adv)
				}
				return
			}
		}
	}
	t.Error("no router advertisement")
}
