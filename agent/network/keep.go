package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// Keep renews the lease until ctx ends: from half of its time on, then again
// after half of what remains, at least a minute apart (RFC 2131 section 4.4.5).
// When the server refuses or the time is over, it asks anew on the same NIC, for
// as long as it takes; an agent that stays for months must outlive a
// controller's holiday. Boot stages get leases of minutes, so this matters
// soon. changed, which may be nil, is told of every lease with another address.
// It returns ctx's error.
func Keep(ctx context.Context, lease Lease, o Options, changed func(Lease)) error {
	o = o.withDefaults()
	for {
		if err := pause(ctx, untilRenewal(lease, time.Now())); err != nil {
			return err
		}
		next, err := renew(ctx, lease)
		if err != nil && ctx.Err() == nil {
			o.Log.Warn("lease not renewed", "nic", lease.NIC.Name, "ip", lease.Address, "err", err)
			if !mustAskAnew(lease, err, time.Now()) {
				continue
			}
			if err := lease.withdraw(); err != nil {
				o.Log.Warn("remove old address", "err", err)
			}
			next, err = acquireAnew(ctx, lease.NIC, o.Log)
		}
		if err != nil {
			return fmt.Errorf("keep address of %s: %w", lease.NIC.Name, err)
		}
		if err := next.apply(o.ResolvConf); err != nil {
			o.Log.Error("apply lease", "nic", lease.NIC.Name, "err", err)
		}
		if next.Address != lease.Address && changed != nil {
			changed(next)
		}
		lease = next
	}
}

// acquireAnew is acquire for a NIC that may be gone for a while, as when its
// driver starts it over.
func acquireAnew(ctx context.Context, nic NIC, log *slog.Logger) (Lease, error) {
	for {
		lease, err := acquire(ctx, nic, 0, log)
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		log.Error("NIC is not there", "nic", nic.Name, "err", err)
		if err := pause(ctx, minRenewal); err != nil {
			return Lease{}, err
		}
		if link, err := netlink.LinkByName(nic.Name); err == nil {
			err = netlink.LinkSetUp(link) // one that came back is switched off
			log.Info("NIC is back", "nic", nic.Name, "err", err)
		}
	}
}

const minRenewal = 10 * time.Second

// untilRenewal is half of the time that is left, so that tries get denser
// towards the end, but not denser than minRenewal.
func untilRenewal(l Lease, now time.Time) time.Duration {
	left := l.Obtained.Add(l.Duration).Sub(now)
	return max(left/2, minRenewal)
}

// mustAskAnew: the server said no, or the time is over.
func mustAskAnew(l Lease, err error, now time.Time) bool {
	var nak *nclient4.ErrNak
	return errors.As(err, &nak) || !now.Before(l.Obtained.Add(l.Duration))
}

func renew(ctx context.Context, l Lease) (next Lease, err error) {
	client, err := nclient4.New(l.NIC.Name, nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(tries))
	if err != nil {
		return Lease{}, fmt.Errorf("open DHCP socket: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	got, err := client.Renew(ctx, &nclient4.Lease{Offer: l.ack, ACK: l.ack, CreationTime: l.Obtained}, modifiers(l.NIC)...)
	if err != nil {
		return Lease{}, err
	}
	if !got.ACK.Options.Has(dhcpv4.OptionSubnetMask) {
		// Some servers leave out what has not changed.
		for code, value := range l.ack.Options {
			if !got.ACK.Options.Has(dhcpv4.GenericOptionCode(code)) {
				got.ACK.Options[code] = value
			}
		}
	}
	return readLease(l.NIC, got.ACK, time.Now())
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
