package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	// dhcpTimeout outlasts spanning tree (50 s) and a slow relay.
	dhcpTimeout = 90 * time.Second
	// headStart is what the boot NIC gets before the others ask too.
	headStart = 15 * time.Second
	// firstTimeout is how long the first DISCOVER waits; the second one twice
	// as long, then it starts over with a new transaction.
	firstTimeout = 4 * time.Second
	tries        = 2
)

// Options of Configure.
type Options struct {
	// BootMAC is the NIC that fetched the boot script; nil when unknown, then
	// all NICs ask from the start.
	BootMAC net.HardwareAddr
	// Timeout for the whole; zero means 90 seconds.
	Timeout time.Duration
	// HeadStart of the boot NIC before the others; zero means 15 seconds.
	HeadStart time.Duration
	// ResolvConf is the path of the file to write; empty means
	// /etc/resolv.conf.
	ResolvConf string
	Log        *slog.Logger
}

// Configure switches the NICs on and gets one address: from the boot NIC if a
// server answers there, else from whichever NIC is answered first. The
// address, its routes and the DNS servers are in force when it returns. Use
// Keep afterwards to renew the lease.
func Configure(ctx context.Context, nics []NIC, o Options) (Lease, error) {
	o = o.withDefaults()
	if len(nics) == 0 {
		return Lease{}, errors.New("get an address: the machine has no NIC, or its driver or firmware is missing from the initramfs")
	}
	if err := Up(nics); err != nil {
		o.Log.Warn("switch links on", "err", err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	lease, err := race(ctx, nics, o)
	if err != nil {
		return Lease{}, fmt.Errorf("get an address on %d NICs within %v: %w", len(nics), o.Timeout, err)
	}
	if err := lease.apply(o.ResolvConf); err != nil {
		return Lease{}, err
	}
	return lease, nil
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = dhcpTimeout
	}
	if o.HeadStart == 0 {
		o.HeadStart = headStart
	}
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// race asks on all NICs, the boot NIC ahead, and takes the first lease. It waits
// for all its goroutines.
func race(ctx context.Context, nics []NIC, o Options) (Lease, error) {
	type answer struct {
		lease Lease
		err   error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	known := slices.ContainsFunc(nics, func(n NIC) bool { return isBoot(n, o.BootMAC) })
	answers := make(chan answer, len(nics))
	for _, nic := range nics {
		wait := o.HeadStart
		if !known || isBoot(nic, o.BootMAC) {
			wait = 0
		}
		go func() {
			lease, err := acquire(ctx, nic, wait, o.Log)
			answers <- answer{lease, err}
		}()
	}
	var won Lease
	var errs []error
	for range nics {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
		} else if won.ack == nil {
			won = a.lease
			stop()
		}
	}
	if won.ack == nil {
		return Lease{}, errors.Join(append([]error{errNoLease}, errs...)...)
	}
	return won, nil
}

func isBoot(n NIC, mac net.HardwareAddr) bool {
	return len(mac) > 0 && (bytes.Equal(n.MAC, mac) || bytes.Equal(n.Permanent, mac))
}

// acquire asks on one NIC until it gets a lease or ctx ends.
func acquire(ctx context.Context, nic NIC, wait time.Duration, log *slog.Logger) (Lease, error) {
	select {
	case <-ctx.Done():
		return Lease{}, fmt.Errorf("%s: %w", nic.Name, ctx.Err())
	case <-time.After(wait):
	}
	if err := waitCarrier(ctx, nic.Name); err != nil {
		return Lease{}, err
	}
	began := time.Now()
	for attempt := 1; ; attempt++ {
		lease, err := ask(ctx, nic)
		if err == nil {
			log.Info("address leased", "nic", nic.Name, "mac", nic.MAC.String(), "ip", lease.Address, "lease", lease.Duration, "elapsed", time.Since(began), "attempt", attempt)
			return lease, nil
		}
		if ctx.Err() != nil {
			return Lease{}, fmt.Errorf("%s has a carrier but nobody answers DHCP: %w", nic.Name, errors.Join(ctx.Err(), err))
		}
		log.Warn("no DHCP answer", "nic", nic.Name, "mac", nic.MAC.String(), "attempt", attempt, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // an error may come at once
		}
	}
}

// ask runs one exchange: DISCOVER, OFFER, REQUEST, ACK.
func ask(ctx context.Context, nic NIC) (lease Lease, err error) {
	client, err := nclient4.New(nic.Name, nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(tries))
	if err != nil {
		return Lease{}, fmt.Errorf("open DHCP socket: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	discover, err := dhcpv4.NewDiscovery(nic.MAC, modifiers(nic)...)
	if err != nil {
		return Lease{}, fmt.Errorf("make DISCOVER: %w", err)
	}
	offer, err := client.SendAndRead(ctx, nclient4.DefaultServers, discover, isOffer)
	if err != nil {
		return Lease{}, fmt.Errorf("wait for an offer: %w", err)
	}
	got, err := client.RequestFromOffer(ctx, offer, modifiers(nic)...)
	if err != nil {
		return Lease{}, fmt.Errorf("request %v from %v: %w", offer.YourIPAddr, offer.ServerIdentifier(), err)
	}
	return readLease(nic, got.ACK, time.Now())
}

// isOffer passes offers of an address; a ProxyDHCP server's has none.
func isOffer(m *dhcpv4.DHCPv4) bool {
	return m.MessageType() == dhcpv4.MessageTypeOffer && !m.YourIPAddr.IsUnspecified()
}

// modifiers puts the hardware address in as client-id (RFC 2132 section 9.14:
// its type and the address) and lists what we want to know.
func modifiers(nic NIC) []dhcpv4.Modifier {
	const ethernet = 1
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{ethernet}, nic.MAC...))),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
			dhcpv4.OptionNTPServers, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionClasslessStaticRoute),
	}
}
