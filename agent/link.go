package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/network"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// networkTries bounds how often an address is asked for; each try lasts 90
// seconds, and NICs may turn up late.
const networkTries = 3

// links is the network once it is up.
type links struct {
	nics    []network.NIC
	heard   *network.Neighbours
	started time.Time
}

// connect brings links and address up, and keeps the lease and an ear on the
// switches until ctx ends; wait is for both.
func connect(ctx context.Context, wait *sync.WaitGroup, h host.Host, params cmdline.Params, log *slog.Logger) (*links, error) {
	options := network.Options{BootMAC: params.BootMAC, Log: log}
	for try := 1; ; try++ {
		nics, err := network.List(h)
		if err != nil {
			return nil, err
		}
		lease, err := network.Configure(ctx, nics, options)
		if err != nil {
			if try == networkTries || ctx.Err() != nil {
				return nil, err
			}
			log.Error("network did not come up, trying again", "attempt", try, "err", err)
			if err := pause(ctx, 2*time.Second); err != nil {
				return nil, err
			}
			continue
		}
		log.Info("network is up", "nic", lease.NIC.Name, "ip", lease.Address.String())
		l := &links{nics: nics, heard: network.NewNeighbours(log), started: time.Now()}
		wait.Go(func() { l.heard.Run(ctx, nics) })
		wait.Go(func() {
			if err := network.Keep(ctx, lease, options, nil); err != nil && ctx.Err() == nil {
				log.Error("lease is not kept", "err", err)
			}
		})
		return l, nil
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// listenFor is how long after the links came up a collection waits for switches
// that have not spoken yet. They speak every 30 seconds, but most do at once
// when a link comes up; a full period would double the time of a commissioning.
const listenFor = 5 * time.Second

// neighbours gives what switches told up to now, by NIC.
func (l *links) neighbours(ctx context.Context) (map[string][]*hardware.LLDPNeighbour, error) {
	if err := pause(ctx, time.Until(l.started.Add(listenFor))); err != nil {
		return nil, fmt.Errorf("listen for switches: %w", err)
	}
	out := map[string][]*hardware.LLDPNeighbour{}
	for _, nic := range l.nics {
		for _, n := range l.heard.On(nic.Name) {
			wire := &hardware.LLDPNeighbour{ChassisId: n.Chassis, PortId: n.Port, PortDescription: n.PortDescription,
				SystemName: n.Name, SystemDescription: n.Description, ManagementAddress: n.Management}
			if n.VLAN != nil {
				vlan := uint32(*n.VLAN)
				wire.PortVlanId = &vlan
			}
			out[nic.Name] = append(out[nic.Name], wire)
		}
	}
	return out, nil
}
