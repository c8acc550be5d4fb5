// Package ra answers router solicitations with a router advertisement that says
// "I am no router" (lifetime 0, no prefix, RFC 4861 section 4.2).
//
// Why: iPXE of 2019 waits some 17 seconds for IPv6 to configure before it goes
// on with the IPv4 address it already has; any advertisement ends that wait.
// Such an advertisement configures nothing, but it is one, so it runs only on
// interfaces where the operator asks for it, and only when solicited.
package ra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/time/rate"
)

const (
	// addressWait is the pause between looks for a link-local address, which an
	// interface has only some time after its link is up (RFC 4862 section 5.4).
	addressWait = 500 * time.Millisecond
	// A segment hears at most this many advertisements a second, with a burst
	// for a rack that is switched on.
	perSecond, burst = 20, 40
)

// Run answers solicitations on the interface until ctx ends. An interface that
// has no IPv6 link-local address yet is waited for.
func Run(ctx context.Context, ifname string, log *slog.Logger) error {
	log = log.With("interface", ifname)
	conn, err := listen(ctx, ifname, log)
	if err != nil || conn == nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	limit := rate.NewLimiter(perSecond, burst)
	for {
		m, cm, from, err := conn.ReadFrom()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read router solicitations on %s: %w", ifname, err)
		}
		// RFC 4861 section 6.1.1: anything but 255 has crossed a router.
		if _, ok := m.(*ndp.RouterSolicitation); !ok || cm == nil || cm.HopLimit != ndp.HopLimit || !limit.Allow() {
			continue
		}
		log.Debug("router solicitation answered", "ip", from.String())
		if err := conn.WriteTo(&ndp.RouterAdvertisement{}, nil, netip.MustParseAddr("ff02::1")); err != nil && ctx.Err() == nil {
			log.Warn("send router advertisement", "err", err)
		}
	}
}

// listen opens the socket once the interface has a link-local address; nil
// without an error means that ctx ended first.
func listen(ctx context.Context, ifname string, log *slog.Logger) (*ndp.Conn, error) {
	for told := false; ; told = true {
		conn, err := open(ifname)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, errNoAddress) {
			return nil, err
		}
		if !told {
			log.Info("no router advertisements yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(addressWait):
		}
	}
}

var errNoAddress = errors.New("waiting for an IPv6 link-local address")

func open(ifname string) (*ndp.Conn, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", ifname, err)
	}
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open ICMPv6 socket on %s (it needs CAP_NET_RAW): %w", ifname, err)
	}
	if err != nil {
		// A tentative address cannot be bound yet; it looks the same from here.
		return nil, fmt.Errorf("%w on %s: %w", errNoAddress, ifname, err)
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	err = errors.Join(conn.SetICMPFilter(&filter), conn.SetControlMessage(ipv6.FlagHopLimit, true),
		conn.JoinGroup(netip.MustParseAddr("ff02::2")))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for router solicitations on %s: %w", ifname, err)
	}
	return conn, nil
}
