package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/safchain/ethtool"
)

const (
	etherLLDP = 0x88cc
	// maxNeighbours a NIC: more than one stands behind a hub or a switch that
	// passes LLDP on.
	maxNeighbours = 8
	maxFrame      = 9216 // bytes
)

// lldpGroups are the addresses that LLDP is sent to (IEEE 802.1AB table 7-1):
// nearest bridge, nearest bridge that is no repeater, nearest customer bridge.
var lldpGroups = []net.HardwareAddr{
	{0x01, 0x80, 0xc2, 0, 0, 0x0e}, {0x01, 0x80, 0xc2, 0, 0, 0x03}, {0x01, 0x80, 0xc2, 0, 0, 0x00},
}

// Neighbours listens for LLDP frames and remembers what was heard. Its methods
// may be called in parallel.
type Neighbours struct {
	log *slog.Logger

	mu    sync.Mutex
	heard map[string][]entry // by name of the NIC
	news  chan struct{}      // closed at the next change
}

type entry struct {
	neighbour Neighbour
	until     time.Time
}

// NewNeighbours returns an empty memory.
func NewNeighbours(log *slog.Logger) *Neighbours {
	return &Neighbours{log: log, heard: map[string][]entry{}, news: make(chan struct{})}
}

// Run listens on the NICs until ctx ends, and returns then. A NIC that cannot be
// listened on is logged and left out. Switches speak every 30 seconds.
func (n *Neighbours) Run(ctx context.Context, nics []NIC) {
	var wg sync.WaitGroup
	for _, nic := range nics {
		wg.Go(func() {
			letLLDPThrough(nic)
			if err := n.listen(ctx, nic.Name); err != nil && ctx.Err() == nil {
				n.log.Warn("listen for switches", "nic", nic.Name, "err", err)
			}
		})
	}
	wg.Wait()
}

// letLLDPThrough asks Intel's NICs, whose own firmware swallows LLDP frames, to
// pass them on. Best effort: older firmware cannot.
func letLLDPThrough(nic NIC) {
	flags := map[string]map[string]bool{"i40e": {"disable-fw-lldp": true}, "ice": {"fw-lldp-agent": false}}[nic.Driver]
	if flags == nil {
		return
	}
	if e, err := ethtool.NewEthtool(); err == nil {
		_ = e.UpdatePrivFlags(nic.Name, flags)
		e.Close()
	}
}

func (n *Neighbours) listen(ctx context.Context, name string) (err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	conn, err := packet.Listen(ifi, packet.Datagram, etherLLDP, nil)
	if err != nil {
		return fmt.Errorf("open LLDP socket: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, group := range lldpGroups {
		if err := conn.JoinGroup(group); err != nil {
			return fmt.Errorf("join LLDP group %s: %w", group, err)
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	buffer := make([]byte, maxFrame)
	for {
		size, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		neighbour, err := parseLLDP(buffer[:size])
		if err != nil {
			n.log.Debug("LLDP frame not understood", "nic", name, "err", err)
			continue
		}
		n.remember(name, neighbour, time.Now())
	}
}

// remember replaces what the same port said before. Of too many, the newest are
// kept.
func (n *Neighbours) remember(nic string, neighbour Neighbour, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := slices.DeleteFunc(n.heard[nic], func(e entry) bool {
		return e.neighbour.Chassis == neighbour.Chassis && e.neighbour.Port == neighbour.Port || now.After(e.until)
	})
	if neighbour.TTL > 0 {
		list = append(list, entry{neighbour, now.Add(neighbour.TTL)})
	}
	if len(list) > maxNeighbours {
		list = list[len(list)-maxNeighbours:]
	}
	n.heard[nic] = list
	close(n.news)
	n.news = make(chan struct{})
}

// On returns the neighbours of a NIC whose word still holds, the latest last.
func (n *Neighbours) On(nic string) []Neighbour {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Neighbour
	for _, e := range n.heard[nic] {
		if time.Now().Before(e.until) {
			out = append(out, e.neighbour)
		}
	}
	return out
}

// Changed returns a channel that is closed when the next frame comes in.
func (n *Neighbours) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news
}
