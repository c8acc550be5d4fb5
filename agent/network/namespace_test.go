package network

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

const inNamespace = "INGOT_TEST_NETWORK_NAMESPACE"

// TestInNamespace runs the tests of this file in a network namespace of their
// own, where the process is root and no packet leaves: it calls itself there.
func TestInNamespace(t *testing.T) {
	t.Parallel()
	if os.Getenv(inNamespace) != "" {
		t.Run("configure", testConfigure)
		t.Run("other NIC answers", testOtherNICAnswers)
		t.Run("nobody answers", testNobodyAnswers)
		t.Run("LLDP", testLLDP)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("this system forbids unprivileged network namespaces (kernel.apparmor_restrict_unprivileged_userns?): run the tests with sudo: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInNamespace/LLDP") {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
}

// cable makes a veth pair and returns the client's NIC; the other end is
// name+"s" and has the address 10.9.0.1/24 if it is a server's.
func cable(t *testing.T, name string, mac string, server bool) NIC {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: hw}, PeerName: name + "s"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	peer, err := netlink.LinkByName(name + "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(peer); err != nil {
		t.Fatal(err)
	}
	if server {
		if err := netlink.AddrAdd(peer, &netlink.Addr{IPNet: toIPNet(netip.MustParsePrefix("10.9.0.1/24"))}); err != nil {
			t.Fatal(err)
		}
	}
	return NIC{Name: name, MAC: hw}
}

// dhcpServer is a small server on one interface that counts what it is asked
// for.
type dhcpServer struct {
	discovers, requests atomic.Int32
	clientIDs           chan string
	ip                  atomic.Value // net.IP to give
	proxy, nak          atomic.Bool
}

func serve(t *testing.T, ifname string) *dhcpServer {
	t.Helper()
	s := &dhcpServer{clientIDs: make(chan string, 100)}
	s.ip.Store(net.IPv4(10, 9, 0, 77))
	server, err := server4.NewServer(ifname, &net.UDPAddr{IP: net.IPv4zero, Port: 67}, s.handle)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve() }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return s
}

func (s *dhcpServer) handle(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		s.requests.Add(1)
		kind = dhcpv4.MessageTypeAck
	} else {
		s.discovers.Add(1)
	}
	s.clientIDs <- string(m.GetOneOption(dhcpv4.OptionClientIdentifier))
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
	send := func(modifiers ...dhcpv4.Modifier) {
		reply, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 1))),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 9, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 9, 0, 1)), dhcpv4.WithLeaseTime(60),
		}, modifiers...)...)
		if err == nil {
			_, _ = conn.WriteTo(reply.ToBytes(), to)
		}
	}
	if s.proxy.Load() && kind == dhcpv4.MessageTypeOffer {
		// A ProxyDHCP server speaks first, without an address.
		send(dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4zero))
	}
	if s.nak.Load() && kind == dhcpv4.MessageTypeAck {
		send(dhcpv4.WithMessageType(dhcpv4.MessageTypeNak))
		return
	}
	send(dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(s.ip.Load().(net.IP)))
}

func options(t *testing.T) Options {
	return Options{Timeout: 20 * time.Second, HeadStart: 300 * time.Millisecond, ResolvConf: filepath.Join(t.TempDir(), "etc/resolv.conf"), Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}
}

func testConfigure(t *testing.T) {
	boot := cable(t, "boot0", "02:00:00:00:00:01", true)
	other := cable(t, "other0", "02:00:00:00:00:02", false)
	server := serve(t, "boot0s")
	server.proxy.Store(true)
	o := options(t)
	o.BootMAC = boot.MAC
	lease, err := Configure(t.Context(), []NIC{other, boot}, o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := lease.Address, netip.MustParsePrefix("10.9.0.77/24"); got != want || lease.NIC.Name != "boot0" {
		t.Errorf("lease: got %v on %s, want %v on boot0", got, lease.NIC.Name, want)
	}
	if got, want := <-server.clientIDs, "\x01\x02\x00\x00\x00\x00\x01"; got != want {
		t.Errorf("client-id: got %q, want %q", got, want)
	}
	routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
	if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(net.IPv4(10, 9, 0, 1)) || !routes[0].Src.Equal(net.IPv4(10, 9, 0, 77)) {
		t.Errorf("default route: got %v, %v", routes, err)
	}
	if data, err := os.ReadFile(o.ResolvConf); err != nil || string(data) != "nameserver 10.9.0.1\n" {
		t.Errorf("resolv.conf: got %q, %v", data, err)
	}

	// Renewal keeps the address; a refusal leads to a new one.
	next, err := renew(t.Context(), lease)
	if err != nil || next.Address != lease.Address {
		t.Errorf("renew: got %v, %v", next.Address, err)
	}
	server.nak.Store(true)
	if _, err := renew(t.Context(), lease); !mustAskAnew(lease, err, time.Now()) {
		t.Errorf("refused renewal: got %v, want an error that makes us ask anew", err)
	}
	server.nak.Store(false)
	server.ip.Store(net.IPv4(10, 9, 0, 78))
	if next, err = acquire(t.Context(), lease.NIC, 0, o.Log); err != nil {
		t.Fatal(err)
	}
	if err := next.apply(o.ResolvConf); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("boot0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || !addrs[0].IP.Equal(net.IPv4(10, 9, 0, 78)) || addrs[0].ValidLft > 60 {
		t.Errorf("addresses: got %v, %v, want only 10.9.0.78 for 60 s", addrs, err)
	}
	if err := next.withdraw(); err != nil {
		t.Error(err)
	}
	if err := next.withdraw(); err != nil {
		t.Errorf("withdraw twice: %v", err)
	}
}

func testOtherNICAnswers(t *testing.T) {
	boot := cable(t, "boot1", "02:00:00:00:01:01", false)
	other := cable(t, "other1", "02:00:00:00:01:02", true)
	serve(t, "other1s")
	o := options(t)
	o.BootMAC = boot.MAC
	lease, err := Configure(t.Context(), []NIC{boot, other}, o)
	if err != nil || lease.NIC.Name != "other1" {
		t.Errorf("got %s, %v, want a lease on other1", lease.NIC.Name, err)
	}
}

func testNobodyAnswers(t *testing.T) {
	quiet := cable(t, "quiet0", "02:00:00:00:02:01", false)
	unplugged := cable(t, "unplug0", "02:00:00:00:02:02", false)
	peer, err := netlink.LinkByName("unplug0s")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(peer); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Timeout = time.Second
	_, err = Configure(t.Context(), []NIC{quiet, unplugged}, o)
	if !errors.Is(err, errNoLease) || !strings.Contains(err.Error(), "quiet0 has a carrier but nobody answers") || !strings.Contains(err.Error(), "carrier on unplug0 (is the cable in?)") {
		t.Errorf("got %v, want errors that name each NIC's trouble", err)
	}
}

func testLLDP(t *testing.T) {
	nic := cable(t, "lldp0", "02:00:00:00:03:01", false)
	if err := Up([]NIC{nic}); err != nil {
		t.Fatal(err)
	}
	n := NewNeighbours(slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx, []NIC{nic}) }()
	peer, err := net.InterfaceByName("lldp0s")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packet.Listen(peer, packet.Datagram, etherLLDP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The listener may not be there yet, so a switch speaks again.
	for changed := n.Changed(); ; {
		if _, err := conn.WriteTo(decode(t, frame), &packet.Addr{HardwareAddr: lldpGroups[0]}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
			continue
		case <-time.After(10 * time.Second):
			t.Fatal("nothing heard")
		}
		break
	}
	if got := n.On("lldp0"); len(got) != 1 || got[0].Port != "Ethernet" {
		t.Errorf("neighbours: got %+v", got)
	}
	stop()
	<-done
}
