package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ingot-metal/ingot/controller/ipam"
)

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
)

func TestFourStepsGiveALease(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	offer, to := b.ask(t, message(t, nic1, discover, dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{255, 1}))))
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer || to.String() != "255.255.255.255:68" {
		t.Fatalf("got %v to %v, want an OFFER to all", offer, to)
	}
	if len(b.book.held) != 0 {
		t.Error("an offer made a lease, want none before the REQUEST")
	}
	got, _ := b.ask(t, message(t, nic1, request, ours(), requested(offer.YourIPAddr.String())))
	if got == nil || got.MessageType() != ack || !got.YourIPAddr.Equal(offer.YourIPAddr) {
		t.Fatalf("got %v, want an ACK for %s", got, offer.YourIPAddr)
	}
	facts := map[string]string{
		"server": got.ServerIdentifier().String(), "mask": net.IP(got.SubnetMask()).String(), "router": got.Router()[0].String(),
		"dns": got.DNS()[0].String(), "ntp": got.NTPServers()[0].String(), "domain": got.DomainName(), "name": got.HostName(),
		"broadcast": got.BroadcastAddress().String(), "lease": got.IPAddressLeaseTime(0).String(),
		"t1": got.IPAddressRenewalTime(0).String(), "t2": got.IPAddressRebindingTime(0).String(), "file": got.BootFileName,
	}
	want := map[string]string{
		"server": "10.0.0.1", "mask": "255.255.255.0", "router": "10.0.0.254", "dns": "10.0.0.1", "ntp": "10.0.0.1",
		"domain": "lab.example", "name": "node1", "broadcast": "10.0.0.255", "lease": "12h0m0s", "t1": "6h0m0s", "t2": "10h30m0s", "file": "",
	}
	if d := cmp.Diff(facts, want); d != "" {
		t.Errorf("got - want +\n%s", d)
	}
	if a, _ := netip.AddrFromSlice(got.YourIPAddr.To4()); b.book.held[a].Stage != ipam.StageInstalled {
		t.Errorf("got lease %+v, want one of an installed system", b.book.held[a])
	}
	if got.TransactionID == offer.TransactionID || offer.Options.Get(dhcpv4.OptionClientIdentifier) == nil {
		t.Error("want the client's transaction and client-id back")
	}
}

// The same NIC gets the same address whatever client-id its software sends.
func TestAddressFollowsTheNIC(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	seen := map[string]bool{}
	for _, id := range [][]byte{nil, {0, 1, 2}, {255, 9, 9}, {1, 0x52}} {
		mods := []dhcpv4.Modifier{}
		if id != nil {
			mods = append(mods, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(id)))
		}
		o, _ := b.ask(t, message(t, nic1, discover, mods...))
		r, _ := b.ask(t, message(t, nic1, request, append(mods, ours(), requested(o.YourIPAddr.String()))...))
		seen[r.YourIPAddr.String()] = true
	}
	if len(seen) != 1 {
		t.Errorf("got addresses %v, want one", seen)
	}
}

func TestRequestStates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		m    *dhcpv4.DHCPv4
		want dhcpv4.MessageType // 0 is silence
		to   string
	}{
		{"renewing", message(t, nic1, request, ciaddr("10.0.0.10")), ack, "10.0.0.10:68"},
		{"init-reboot, own address", message(t, nic1, request, requested("10.0.0.10")), ack, "255.255.255.255:68"},
		{"init-reboot, another network", message(t, nic1, request, requested("192.168.1.5")), nak, "255.255.255.255:68"},
		{"init-reboot, taken", message(t, nic2, request, requested("10.0.0.10")), nak, "255.255.255.255:68"},
		{"renewing, taken", message(t, nic2, request, ciaddr("10.0.0.10")), nak, "255.255.255.255:68"},
		{"selecting, taken meanwhile", message(t, nic2, request, ours(), requested("10.0.0.10")), nak, "255.255.255.255:68"},
		{"selecting another server", message(t, nic1, request, requested("10.0.0.10"), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 0, 0, 9}))), 0, ""},
		{"no address at all", message(t, nic1, request), 0, ""},
		{"relayed", message(t, nic2, request, requested("10.7.0.11"), ours(), dhcpv4.WithRelay(net.IP{10, 7, 0, 1})), ack, "10.7.0.1:67"},
		{"relayed, wrong network", message(t, nic2, request, requested("10.0.0.11"), dhcpv4.WithRelay(net.IP{10, 7, 0, 1})), nak, "10.7.0.1:67"},
		{"renewing by unicast from behind a relay", message(t, nic2, request, ciaddr("10.7.0.12")), ack, "10.7.0.12:68"},
		{"unknown relay", message(t, nic2, request, requested("10.0.0.11"), dhcpv4.WithRelay(net.IP{172, 16, 0, 1})), 0, ""},
		{"our own look-out", message(t, nic2, discover, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(probeClass))), 0, ""},
		{"the server's own address", message(t, nic2, request, requested("10.0.0.1")), nak, "255.255.255.255:68"},
		{"no hardware address and no client-id", message(t, make(net.HardwareAddr, 6), discover), 0, ""},
		{"an answer, not a request", dhcpv4Reply(t), 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if r, _ := b.ask(t, message(t, nic1, request, ours(), requested("10.0.0.10"))); r.MessageType() != ack {
				t.Fatalf("got %v for the first lease, want an ACK", r)
			}
			got, to := b.ask(t, tt.m)
			if tt.want == 0 {
				if got != nil {
					t.Fatalf("got %s, want silence", got)
				}
				return
			}
			if got == nil || got.MessageType() != tt.want || to.String() != tt.to {
				t.Fatalf("got %v to %v, want %s to %s", got, to, tt.want, tt.to)
			}
			if relayed := !unset(tt.m.GatewayIPAddr); tt.want == nak && relayed && !got.IsBroadcast() {
				t.Error("a NAK through a relay must ask it to broadcast")
			}
		})
	}
}

func dhcpv4Reply(t *testing.T) *dhcpv4.DHCPv4 {
	m := message(t, nic1, discover)
	m.OpCode = dhcpv4.OpcodeBootReply
	return m
}

func TestStoreAwayConfirmsOnlyTheRemainingTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ask(t, message(t, nic1, request, ours(), requested("10.0.0.10")))
	b.book.setAway(true)
	b.clock.add(2*time.Hour - 10*time.Second)
	got, _ := b.ask(t, message(t, nic1, request, ciaddr("10.0.0.10")))
	if got == nil || got.IPAddressLeaseTime(0) != 10*time.Hour {
		t.Fatalf("got %v, want an ACK of the 10 hours that are left", got)
	}
	for name, m := range map[string]*dhcpv4.DHCPv4{
		"new client":      message(t, nic2, discover),
		"another address": message(t, nic1, request, ciaddr("10.0.0.11")),
		"another client":  message(t, nic2, request, ciaddr("10.0.0.10")),
		"selecting":       message(t, nic1, request, ours(), requested("10.0.0.10")),
	} {
		if got, _ := b.ask(t, m); got != nil {
			t.Errorf("%s: got %s, want silence", name, got)
		}
	}
	b.clock.add(11 * time.Hour)
	if got, _ := b.ask(t, message(t, nic1, request, ciaddr("10.0.0.10"))); got != nil {
		t.Errorf("got %s for an expired lease, want silence", got)
	}
}

func TestDeclineReleaseInform(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ask(t, message(t, nic1, request, ours(), requested("10.0.0.10")))
	if got, _ := b.ask(t, message(t, nic2, dhcpv4.MessageTypeDecline, ours(), requested("10.0.0.10"))); got != nil || len(b.book.bad) != 0 {
		t.Error("a stranger's DECLINE changed something")
	}
	b.ask(t, message(t, nic1, dhcpv4.MessageTypeDecline, ours(), requested("10.0.0.10")))
	if !b.book.bad[netip.MustParseAddr("10.0.0.10")] {
		t.Error("a declined address is not in quarantine")
	}
	if got, _ := b.ask(t, message(t, nic1, request, ours(), requested("10.0.0.10"))); got.MessageType() != nak {
		t.Errorf("got %s for a quarantined address, want a NAK", got)
	}
	b.ask(t, message(t, nic1, request, ours(), requested("10.0.0.11")))
	b.ask(t, message(t, nic1, dhcpv4.MessageTypeRelease, ours(), ciaddr("10.0.0.11")))
	if len(b.book.held) != 0 {
		t.Errorf("got leases %v after RELEASE, want none", b.book.held)
	}
	got, to := b.ask(t, message(t, nic1, dhcpv4.MessageTypeInform, ciaddr("10.0.0.77")))
	if got == nil || got.MessageType() != ack || !unset(got.YourIPAddr) || got.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || got.DomainName() != "lab.example" || to.String() != "10.0.0.77:68" {
		t.Errorf("got %v to %v for INFORM, want an ACK without an address", got, to)
	}
}

func TestBootClients(t *testing.T) {
	t.Parallel()
	guid := append([]byte{0}, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff)
	class := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(s)) }
	arch := func(a iana.Arch) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientArch(a)) }
	user := dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
	uuid := dhcpv4.WithOption(dhcpv4.OptGeneric(optionUUID, guid))
	const script = "http://10.0.0.1:8080/boot/script?mac=52:54:00:00:00:01&uuid=00112233-4455-6677-8899-aabbccddeeff"
	tests := []struct {
		name              string
		mods              []dhcpv4.Modifier
		file, tftp, class string
		ipxe              bool
	}{
		{"BIOS PXE", []dhcpv4.Modifier{class("PXEClient:Arch:00000:UNDI:002001"), arch(0), uuid}, "undionly.kpxe", "10.0.0.1", "", false},
		{"UEFI PXE", []dhcpv4.Modifier{class("PXEClient:Arch:00007:UNDI:003000"), arch(7), uuid}, "snponly.efi", "10.0.0.1", "", false},
		{"UEFI HTTP", []dhcpv4.Modifier{class("HTTPClient:Arch:00016:UNDI:003000"), arch(16), uuid}, "http://10.0.0.1:8080/boot/ipxe.efi", "", "HTTPClient", false},
		{"iPXE BIOS", []dhcpv4.Modifier{class("PXEClient:Arch:00000:UNDI:002001"), arch(0), user, uuid}, script + "&arch=i386&platform=pcbios", "", "", true},
		{"iPXE UEFI", []dhcpv4.Modifier{class("PXEClient:Arch:00007:UNDI:003010"), arch(7), user, uuid}, script + "&arch=x86_64&platform=efi", "", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, mt := range []dhcpv4.MessageType{discover, request} {
				got, _ := b.ask(t, message(t, nic1, mt, append(tt.mods, requested("10.0.0.10"))...))
				if got == nil {
					t.Fatalf("%s: got silence, want an answer", mt)
				}
				inFile := tt.file
				if len(inFile) > maxFile {
					inFile = ""
				}
				have := []string{dhcpv4.GetString(dhcpv4.OptionBootfileName, got.Options), got.BootFileName, got.TFTPServerName(), got.ClassIdentifier(), got.IPAddressLeaseTime(0).String()}
				want := []string{tt.file, inFile, tt.tftp, tt.class, "10m0s"}
				if d := cmp.Diff(have, want); d != "" {
					t.Errorf("%s: got - want +\n%s", mt, d)
				}
				if has := bytes.Equal(got.Options.Get(optionIPXE), []byte{0xb0, 1, 1}); has != tt.ipxe {
					t.Errorf("%s: option 175: got %v, want %v", mt, has, tt.ipxe)
				}
				if tt.tftp != "" && got.ServerIPAddr.String() != tt.tftp {
					t.Errorf("%s: siaddr: got %s, want %s", mt, got.ServerIPAddr, tt.tftp)
				}
				if n := len(got.ToBytes()); n > minimumSize {
					t.Errorf("%s: got %d bytes, want at most %d", mt, n, minimumSize)
				}
			}
		})
	}
}

func TestNoRangeIsSilence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.book.ranges = nil
	for _, m := range []*dhcpv4.DHCPv4{message(t, nic1, discover), message(t, nic1, request, requested("10.0.0.10")), message(t, nic1, request, requested("172.16.0.1"))} {
		if got, _ := b.ask(t, m); got != nil {
			t.Errorf("got %s, want silence", got)
		}
	}
}

func TestOneClientCannotFlood(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	now := time.Unix(1, 0)
	n := 0
	for range 1000 {
		if l.allow("a", now) {
			n++
		}
	}
	if n != clientBurst || !l.allow("b", now) || !l.allow("a", now.Add(time.Second)) {
		t.Errorf("got %d packets through at once, want %d, and others unharmed", n, clientBurst)
	}
}

func TestGenerationsAreBounded(t *testing.T) {
	t.Parallel()
	g := generations[int]{max: 4}
	for i := range 100 {
		g.put(string(rune(i)), i)
	}
	if n := len(g.young) + len(g.old); n > 8 {
		t.Errorf("got %d entries, want at most 8", n)
	}
	if v, ok := g.get(string(rune(99))); !ok || v != 99 {
		t.Errorf("got %d %v for the youngest entry, want 99", v, ok)
	}
}
