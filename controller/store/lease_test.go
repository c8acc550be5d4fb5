package store_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// segment sets up 10.0.0.0/24 with one dynamic and some reserved ranges.
func segment(t testing.TB, s *store.Store, first, last string, reserved ...string) ipam.Subnet {
	t.Helper()
	n, err := s.SubnetEnsure(t.Context(), ipam.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DNS: []netip.Addr{addr("10.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	ranges := []ipam.Range{{SubnetID: n.ID, First: addr(first), Last: addr(last), Kind: ipam.KindDynamic}}
	for _, a := range reserved {
		ranges = append(ranges, ipam.Range{SubnetID: n.ID, First: addr(a), Last: addr(a), Kind: ipam.KindReserved})
	}
	for _, r := range ranges {
		if err := s.RangeEnsure(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func request(client net.HardwareAddr, stage ipam.Stage, d time.Duration) boot.LeaseRequest {
	return boot.LeaseRequest{Client: ipam.Client{HardwareAddr: client}, Interface: netip.MustParsePrefix("10.0.0.0/24"),
		Server: addr("10.0.0.2"), Stage: stage, Duration: d}
}

// lease goes through offer and commit.
func lease(t testing.TB, s *store.Store, r boot.LeaseRequest) (ipam.Lease, error) {
	t.Helper()
	offer, err := s.LeaseOffer(t.Context(), r)
	if err != nil {
		return offer, err
	}
	r.Requested = offer.Address
	return s.LeaseCommit(t.Context(), r)
}

func TestLeaseLife(t *testing.T) {
	t.Parallel()
	s := held(t)
	if _, err := lease(t, s, request(mac(1), ipam.StageBoot, time.Minute)); !errors.Is(err, ipam.ErrNoRange) {
		t.Errorf("without a subnet: got %v, want ErrNoRange", err)
	}
	segment(t, s, "10.0.0.10", "10.0.0.12", "10.0.0.11")
	m := added(t, s, mac(1))
	first, err := lease(t, s, request(mac(1), ipam.StageBoot, 10*time.Minute))
	if err != nil || !first.Expires.Equal(epoch.Add(10*time.Minute)) || first.Hostname != m.Hostname || first.Subnet.Gateway != addr("10.0.0.1") {
		t.Fatalf("got %+v, %v", first, err)
	}
	installed := request(mac(1), ipam.StageInstalled, 12*time.Hour)
	installed.Client.ClientID = []byte{255, 1, 2, 3} // the system sends another id
	got, err := lease(t, s, installed)
	if err != nil || got.Address != first.Address || !got.Expires.Equal(epoch.Add(12*time.Hour)) {
		t.Errorf("installed system: got %s until %s, %v, want %s", got.Address, got.Expires, err, first.Address)
	}
	if m = get(t, s, m.ID); m.NICs[0].Address != first.Address.String() {
		t.Errorf("got address %q shown, want %s", m.NICs[0].Address, first.Address)
	}
	if got, err = s.LeaseOffer(t.Context(), request(mac(1), ipam.StageBoot, time.Minute)); err != nil || got.Address != first.Address {
		t.Errorf("offer: got %s, %v", got.Address, err)
	}
	short := installed
	short.Duration, short.Requested = time.Hour, first.Address
	if got, err = s.LeaseCommit(t.Context(), short); err != nil || !got.Expires.Equal(epoch.Add(12*time.Hour)) {
		t.Errorf("a renewal shortened the lease to %s (%v)", got.Expires, err)
	}
	other := request(mac(2), ipam.StageBoot, time.Minute)
	other.Requested = first.Address
	if _, err := s.LeaseCommit(t.Context(), other); !errors.Is(err, ipam.ErrTaken) {
		t.Errorf("another client asks for it: got %v, want ErrTaken", err)
	}
	other.Requested = addr("10.0.0.11")
	if _, err := s.LeaseCommit(t.Context(), other); !errors.Is(err, ipam.ErrTaken) {
		t.Errorf("a reserved address: got %v, want ErrTaken", err)
	}
	if got, err = lease(t, s, request(mac(1), ipam.StageBoot, 10*time.Minute)); err != nil || !got.Expires.Equal(epoch.Add(10*time.Minute)) {
		t.Errorf("firmware after a system: got %s, %v, want ten minutes", got.Expires, err)
	}
}

func TestLeaseReleaseAndDecline(t *testing.T) {
	t.Parallel()
	s := held(t)
	segment(t, s, "10.0.0.10", "10.0.0.11")
	a, err := lease(t, s, request(mac(1), ipam.StageBoot, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	client := ipam.Client{HardwareAddr: mac(1)}
	if err := s.LeaseRelease(t.Context(), ipam.Client{HardwareAddr: mac(9)}, a.Address); err != nil {
		t.Fatal(err)
	}
	if err := s.LeaseDecline(t.Context(), ipam.Client{HardwareAddr: mac(9)}, a.Address); err != nil {
		t.Fatal(err)
	}
	b, err := lease(t, s, request(mac(2), ipam.StageBoot, time.Hour))
	if err != nil || b.Address == a.Address {
		t.Fatalf("got %s, %v, though it is held", b.Address, err)
	}
	if err := s.LeaseRelease(t.Context(), client, a.Address); err != nil {
		t.Fatal(err)
	}
	if again, err := lease(t, s, request(mac(1), ipam.StageBoot, time.Hour)); err != nil || again.Address != a.Address {
		t.Errorf("after a release: got %s, %v, want %s again", again.Address, err, a.Address)
	}
	if err := s.LeaseDecline(t.Context(), client, a.Address); err != nil {
		t.Fatal(err)
	}
	if _, err := lease(t, s, request(mac(1), ipam.StageBoot, time.Hour)); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("one held and one in quarantine: got %v, want ErrExhausted", err)
	}
	storetest.ClockHold(t, s, epoch.Add(11*time.Minute))
	if c, err := lease(t, s, request(mac(3), ipam.StageBoot, time.Hour)); err != nil || c.Address != a.Address {
		t.Errorf("after the quarantine: got %s, %v", c.Address, err)
	}
	list, _, err := s.LeaseList(t.Context(), 10, "")
	if err != nil || len(list) != 2 {
		t.Errorf("got %d leases, %v", len(list), err)
	}
}

// 200 clients at once on a /24: each has an address of its own, and those that
// come again keep it.
func TestLeaseParallelClients(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	segment(t, s, "10.0.0.10", "10.0.0.209", "10.0.0.50", "10.0.0.51")
	const clients = 198
	for range 2 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		held := map[netip.Addr]byte{}
		for i := range clients {
			wg.Go(func() {
				l, err := lease(t, s, request(mac(byte(i)), ipam.StageBoot, time.Hour))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				} else if _, twice := held[l.Address]; twice || l.Address == addr("10.0.0.50") || l.Address == addr("10.0.0.51") {
					t.Errorf("client %d: got %s, which is another's or reserved", i, l.Address)
				}
				held[l.Address] = byte(i)
			})
		}
		wg.Wait()
	}
	if _, err := lease(t, s, request(mac(250), ipam.StageBoot, time.Hour)); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("got %v, want ErrExhausted", err)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	n := segment(t, s, "10.0.0.10", "10.0.0.20")
	segment(t, s, "10.0.0.10", "10.0.0.20") // the same again
	wantKind(t, s.RangeEnsure(t.Context(), ipam.Range{SubnetID: n.ID, First: addr("10.0.0.20"), Last: addr("10.0.0.30"), Kind: ipam.KindDynamic}), fault.Exists)
	wantKind(t, s.RangeEnsure(t.Context(), ipam.Range{SubnetID: n.ID, First: addr("10.0.1.20"), Last: addr("10.0.1.30"), Kind: ipam.KindDynamic}), fault.Invalid)
	_, err := s.SubnetEnsure(t.Context(), ipam.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/16")})
	wantKind(t, err, fault.Exists)
	if list, err := s.RangeList(t.Context(), n.ID); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
}

// Whatever clients do and whenever, no address is two clients' at one time and
// none is reserved.
func TestLeaseProperty(t *testing.T) {
	t.Parallel()
	s := held(t)
	segment(t, s, "10.0.0.10", "10.0.0.15", "10.0.0.12")
	now := epoch
	type told struct {
		address netip.Addr
		until   time.Time
	}
	rapid.Check(t, func(r *rapid.T) {
		now = now.Add(24 * time.Hour) // all leases of the run before have ended
		storetest.ClockHold(t, s, now)
		holds := map[byte]told{}
		for range rapid.IntRange(5, 25).Draw(r, "steps") {
			c := rapid.ByteRange(1, 8).Draw(r, "client")
			client := ipam.Client{HardwareAddr: mac(c)}
			switch rapid.IntRange(0, 5).Draw(r, "action") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(1, 900).Draw(r, "seconds")) * time.Second)
				storetest.ClockHold(t, s, now)
			case 1:
				_ = s.LeaseRelease(t.Context(), client, holds[c].address)
				delete(holds, c)
			case 2:
				_ = s.LeaseDecline(t.Context(), client, holds[c].address)
				delete(holds, c)
			default:
				l, err := lease(t, s, request(mac(c), ipam.StageBoot, 10*time.Minute))
				if errors.Is(err, ipam.ErrExhausted) {
					continue
				}
				if err != nil {
					r.Fatal(err)
				}
				if l.Address == addr("10.0.0.12") {
					r.Fatal("a reserved address was leased")
				}
				for other, h := range holds {
					if other != c && h.address == l.Address && h.until.After(now) {
						r.Fatalf("%s is of client %d until %s and was given to %d at %s", l.Address, other, h.until, c, now)
					}
				}
				holds[c] = told{l.Address, l.Expires}
			}
		}
	})
}
