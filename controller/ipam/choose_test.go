package ipam

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func dyn(first, last string) Range {
	return Range{First: addr(first), Last: addr(last), Kind: KindDynamic}
}

func reserved(first, last string) Range {
	return Range{First: addr(first), Last: addr(last), Kind: KindReserved}
}

func mac(n byte) Client {
	return Client{HardwareAddr: net.HardwareAddr{0x52, 0x54, 0, 0, 0, n}}
}

var lan = Subnet{ID: 1, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")}

func takenSet(list ...string) func(netip.Addr) bool {
	set := map[netip.Addr]bool{}
	for _, s := range list {
		set[addr(s)] = true
	}
	return func(a netip.Addr) bool { return set[a] }
}

func TestChoiceAddress(t *testing.T) {
	t.Parallel()
	pool := []Range{dyn("10.0.0.10", "10.0.0.12")}
	tests := []struct {
		name string
		c    Choice
		want string
		err  error
	}{
		{"previous wins over requested", Choice{Ranges: pool, Previous: addr("10.0.0.12"), Requested: addr("10.0.0.11")}, "10.0.0.12", nil},
		{"requested when there is no previous", Choice{Ranges: pool, Requested: addr("10.0.0.11")}, "10.0.0.11", nil},
		{"previous taken, requested free", Choice{Ranges: pool, Previous: addr("10.0.0.12"), Requested: addr("10.0.0.11"), Taken: takenSet("10.0.0.12")}, "10.0.0.11", nil},
		{"requested outside the range is ignored", Choice{Ranges: []Range{dyn("10.0.0.10", "10.0.0.10")}, Requested: addr("10.0.0.200")}, "10.0.0.10", nil},
		{"previous moved into a reserved range", Choice{Ranges: []Range{dyn("10.0.0.10", "10.0.0.11"), reserved("10.0.0.11", "10.0.0.11")}, Previous: addr("10.0.0.11")}, "10.0.0.10", nil},
		{"gateway, network and broadcast are never given", Choice{Ranges: []Range{dyn("10.0.0.0", "10.0.0.2"), dyn("10.0.0.255", "10.0.0.255")}}, "10.0.0.2", nil},
		{"the server's own address is avoided", Choice{Ranges: []Range{dyn("10.0.0.2", "10.0.0.3")}, Avoid: []netip.Addr{addr("10.0.0.2")}}, "10.0.0.3", nil},
		{"the last free one is found", Choice{Ranges: pool, Taken: takenSet("10.0.0.10", "10.0.0.12")}, "10.0.0.11", nil},
		{"all taken", Choice{Ranges: pool, Taken: takenSet("10.0.0.10", "10.0.0.11", "10.0.0.12")}, "", ErrExhausted},
		{"all reserved", Choice{Ranges: append([]Range{reserved("10.0.0.0", "10.0.0.255")}, pool...)}, "", ErrExhausted},
		{"no range", Choice{}, "", ErrNoRange},
		{"only a reserved range", Choice{Ranges: []Range{reserved("10.0.0.10", "10.0.0.12")}}, "", ErrNoRange},
		{"range of another subnet", Choice{Ranges: []Range{dyn("10.9.0.10", "10.9.0.12")}}, "", ErrNoRange},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.c.Subnet, tt.c.Client = lan, mac(1)
			got, err := tt.c.Address()
			if !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if tt.want == "" {
				return
			}
			if got != addr(tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A full range is handed out one by one, each address once, and a client that
// comes back after everything was forgotten starts at the same place.
func TestChoiceFillsTheRangeOnce(t *testing.T) {
	t.Parallel()
	held := map[netip.Addr]bool{}
	c := Choice{
		Subnet: lan, Ranges: []Range{dyn("10.0.0.10", "10.0.0.19"), dyn("10.0.0.30", "10.0.0.39"), reserved("10.0.0.15", "10.0.0.16")},
		Taken: func(a netip.Addr) bool { return held[a] },
	}
	c.Client = mac(7)
	first, err := c.Address()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 18 {
		c.Client = mac(byte(i))
		a, err := c.Address()
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		if held[a] {
			t.Fatalf("client %d: got %s, which is held already", i, a)
		}
		held[a] = true
	}
	if _, err := c.Address(); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v after the last address, want ErrExhausted", err)
	}
	clear(held)
	c.Client = mac(7)
	again, _ := c.Address()
	if again != first {
		t.Errorf("got %s for the same client on an empty range, want %s again", again, first)
	}
}

func TestChoiceCheck(t *testing.T) {
	t.Parallel()
	c := Choice{Subnet: lan, Ranges: []Range{dyn("10.0.0.10", "10.0.0.12")}, Taken: takenSet("10.0.0.11")}
	got := map[string]error{}
	for _, s := range []string{"10.0.0.10", "10.0.0.11", "10.0.0.1", "192.168.0.1", "::1"} {
		got[s] = c.Check(addr(s))
	}
	want := map[string]error{"10.0.0.10": nil, "10.0.0.11": ErrTaken, "10.0.0.1": ErrTaken, "192.168.0.1": ErrTaken, "::1": ErrTaken}
	if d := cmp.Diff(got, want, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); d != "" {
		t.Errorf("got - want +\n%s", d)
	}
	if err := (Choice{Subnet: lan}).Check(addr("10.0.0.10")); !errors.Is(err, ErrNoRange) {
		t.Errorf("got %v without a range, want ErrNoRange", err)
	}
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	a := Client{HardwareAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}, ClientID: []byte{1, 1, 2, 3, 4, 5, 6}}
	b := Client{HardwareAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}, ClientID: []byte{255, 9, 9}}
	if !a.Same(b) {
		t.Error("firmware and installed system of one NIC got two keys, want one")
	}
	ipoib := Client{ClientID: []byte{255, 1, 2}}
	if ipoib.Same(a) || !ipoib.Same(ipoib) {
		t.Error("client-id must decide where there is no hardware address")
	}
	if (Client{}).Key() != "" || (Client{}).Same(Client{}) || (Client{HardwareAddr: make(net.HardwareAddr, 6)}).Key() != "" {
		t.Error("a client without any name must have no key")
	}
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"10.0.0.0/24": "10.0.0.255", "10.1.2.3/8": "10.255.255.255", "10.0.0.4/32": "10.0.0.4", "0.0.0.0/0": "255.255.255.255"} {
		if got := Broadcast(netip.MustParsePrefix(in)); got != addr(want) {
			t.Errorf("Broadcast(%s): got %s, want %s", in, got, want)
		}
	}
}
