package network

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/ingot-metal/ingot/agent/host"
)

// machine writes a sysfs ("->" makes a link) below a fresh root.
func machine(t *testing.T, files map[string]string) host.Host {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if target, isLink := strings.CutPrefix(content, "->"); isLink {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root)
}

func TestList(t *testing.T) {
	t.Parallel()
	const pci, usb = "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eno1/", "sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/usb0/"
	h := machine(t, map[string]string{
		"sys/class/net/eno1": "->../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eno1",
		"sys/class/net/usb0": "->../../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/usb0",
		"sys/class/net/lo":   "->../../devices/virtual/net/lo", "sys/devices/virtual/net/lo/type": "772",
		"sys/class/net/bond0": "->../../devices/virtual/net/bond0", "sys/devices/virtual/net/bond0/type": "1",
		"sys/class/net/bonding_masters": "bond0",
		pci + "type":                    "1", pci + "address": "00:11:22:33:44:55", pci + "carrier": "1", pci + "speed": "25000", pci + "mtu": "1500",
		pci + "device/driver": "->../../../../../bus/pci/drivers/ice",
		usb + "type":          "1", usb + "address": "nonsense", usb + "speed": "-1", usb + "mtu": "x", usb + "device/x": "",
	})
	got, err := List(h)
	if err != nil {
		t.Fatal(err)
	}
	want := []NIC{
		{Name: "eno1", MAC: net.HardwareAddr{0, 0x11, 0x22, 0x33, 0x44, 0x55}, LinkUp: true, Speed: 25e9, MTU: 1500, Driver: "ice", PCIAddress: "0000:3b:00.1"},
		{Name: "usb0", USB: true},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("NICs (-got +want):\n%s", diff)
	}
}

func ack(t *testing.T, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(600),
		dhcpv4.WithServerIP(net.IPv4(10, 0, 0, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))),
	}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReadLease(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	m := ack(t, dhcpv4.WithRouter(net.IPv4(10, 0, 0, 254)), dhcpv4.WithDNS(net.IPv4(1, 1, 1, 1), net.IPv4(127, 0, 0, 1), net.IPv4(8, 8, 8, 8), net.IPv4(9, 9, 9, 9), net.IPv4(9, 9, 9, 8)),
		dhcpv4.WithOption(dhcpv4.OptDomainName("lab.example")), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x23, 0x28}))
	got, err := readLease(NIC{Name: "eth0"}, m, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParsePrefix("10.0.0.9/24"); got.Address != want || got.Duration != 10*time.Minute || got.MTU != 9000 {
		t.Errorf("got %v for %v, MTU %d, want %v for 10m, MTU 9000", got.Address, got.Duration, got.MTU, want)
	}
	if got, want := string(got.resolvConf()), "nameserver 1.1.1.1\nnameserver 8.8.8.8\nnameserver 9.9.9.9\nsearch lab.example\n"; got != want {
		t.Errorf("resolv.conf: got %q, want %q", got, want)
	}
	if len(got.Routes) != 1 || got.Routes[0] != (Route{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.254")}) {
		t.Errorf("routes: got %v", got.Routes)
	}
	classless := ack(t, dhcpv4.WithRouter(net.IPv4(10, 0, 0, 254)), dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(192, 168, 0, 0), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4zero})))
	if got, err = readLease(NIC{}, classless, now); err != nil || len(got.Routes) != 1 || got.Routes[0].Via.IsValid() {
		t.Errorf("classless routes: got %v, %v, want one on the link", got.Routes, err)
	}
}

func TestReadLeaseHostile(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*dhcpv4.DHCPv4{
		"broadcast": ack(t, dhcpv4.WithYourIP(net.IPv4bcast)), "loopback": ack(t, dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1))),
		"none": ack(t, dhcpv4.WithYourIP(net.IPv4zero)), "holes in mask": ack(t, dhcpv4.WithNetmask(net.IPv4Mask(255, 0, 255, 0))),
	} {
		if l, err := readLease(NIC{}, m, time.Now()); err == nil {
			t.Errorf("%s: got %v, want an error", name, l.Address)
		}
	}
	l, err := readLease(NIC{}, ack(t, dhcpv4.WithLeaseTime(0), dhcpv4.WithOption(dhcpv4.OptDomainName("x\nnameserver 6.6.6.6")), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 68})), time.Now())
	if err != nil || l.Duration != minDuration || l.Domain != "" || l.MTU != 0 {
		t.Errorf("got %v, domain %q, MTU %d, %v, want the shortest time and neither domain nor MTU", l.Duration, l.Domain, l.MTU, err)
	}
}

func TestRenewalTimes(t *testing.T) {
	t.Parallel()
	began := time.Unix(1e9, 0)
	l := Lease{Obtained: began, Duration: 10 * time.Minute}
	for after, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, 5 * time.Minute: 150 * time.Second, 599 * time.Second: minRenewal, time.Hour: minRenewal} {
		if got := untilRenewal(l, began.Add(after)); got != want {
			t.Errorf("after %v: got %v, want %v", after, got, want)
		}
	}
	if mustAskAnew(l, nclient4.ErrNoResponse, began.Add(599*time.Second)) || !mustAskAnew(l, nclient4.ErrNoResponse, began.Add(600*time.Second)) {
		t.Error("silence: a lease must be kept to its end and no longer")
	}
	if !mustAskAnew(l, &nclient4.ErrNak{}, began) {
		t.Error("refusal: got keep, want ask anew")
	}
}
