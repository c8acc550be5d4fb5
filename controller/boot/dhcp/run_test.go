package dhcp

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"
)

// startRun runs a server on a wire in memory with a look-out that the test answers.
func startRun(t *testing.T, probe func(context.Context) (netip.Addr, error)) (*wire, *book, func() error) {
	t.Helper()
	w, b := newWire(), newBook(time.Now)
	s, err := New(Config{
		Interface: "test0", Address: server, Leases: b, Directory: targets{}, Log: slog.New(slog.DiscardHandler),
		SkipProbe: probe == nil, Probe: probe, ProbeEvery: time.Nanosecond,
	}, w)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return w, b, func() error { cancel(); return <-done }
}

func TestRunAnswersAndStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	w, _, stop := startRun(t, nil)
	// The gate opens in its own goroutine: ask until there is an answer.
	m := message(t, nic1, discover).ToBytes()
	for answered := false; !answered; {
		w.in <- []byte("not DHCP")
		w.in <- m
		select {
		case s := <-w.out:
			answered = s.m.MessageType() == dhcpv4.MessageTypeOffer
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := stop(); err != nil {
		t.Errorf("got %v, want a clean stop", err)
	}
}

// While another server answers on the segment, ours stays silent and asks the
// store nothing; it begins when the other one is gone.
func TestRunStaysSilentBesideAnotherServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	looked, answers := make(chan struct{}), make(chan netip.Addr)
	w, b, stop := startRun(t, func(ctx context.Context) (netip.Addr, error) {
		select {
		case looked <- struct{}{}:
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		}
		select {
		case a := <-answers:
			return a, nil
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		}
	})
	m := message(t, nic1, discover).ToBytes()
	<-looked
	w.in <- m
	answers <- netip.MustParseAddr("10.0.0.99")
	<-looked // it looks again, and was silent meanwhile
	w.in <- m
	w.in <- m
	b.mu.Lock()
	if n := len(b.requests); n != 0 {
		t.Errorf("got %d questions to the store beside another server, want none", n)
	}
	b.mu.Unlock()
	answers <- netip.Addr{}
	for answered := false; !answered; {
		w.in <- m
		select {
		case <-w.out:
			answered = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := stop(); err != nil {
		t.Errorf("got %v, want a clean stop", err)
	}
}

// FuzzServe: whatever comes off the wire makes neither a panic nor an answer
// that cannot be parsed, and never an address outside the ranges.
func FuzzServe(f *testing.F) {
	for _, m := range []*dhcpv4.DHCPv4{
		message(f, nic1, discover), message(f, nic1, request, requested("10.0.0.10")), message(f, nic2, request, ciaddr("10.7.0.11")),
		message(f, nic2, dhcpv4.MessageTypeDecline, ours(), requested("10.0.0.10")),
		message(f, nic1, discover, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")), dhcpv4.WithRelay([]byte{10, 7, 0, 1})),
	} {
		f.Add(m.ToBytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench(t)
		w := newWire()
		b.conn = w
		b.serve(t.Context(), packet{data: data, from: w.LocalAddr()})
		select {
		case s := <-w.out:
			if y := addr(s.m.YourIPAddr); y.IsValid() && !b.book.ranges[0].Contains(y) && !b.book.ranges[1].Contains(y) {
				t.Errorf("got address %s, which is in no range", y)
			}
		default:
		}
	})
}
