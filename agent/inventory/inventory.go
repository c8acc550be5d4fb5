// Package inventory reads what the machine is made of, into one collection.
//
// Each part is read by itself: one that cannot be read becomes an entry of
// Collection.errors with its reason, and never stops the others. CPU, memory
// and PCI names come from ghw; disks, NICs and what ghw needs udev, ethtool or a
// full system for come from sysfs and the devices themselves. What hardware
// says of itself is bounded in size and count, and kept to printable text.
package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// MaxBytes bounds an encoded collection; the controller refuses more.
const MaxBytes = 4 << 20

// Collector reads a machine.
type Collector struct {
	Host    host.Host
	Version string // of the agent
	BootMAC string // hardware address of the NIC that this boot came in by
	// Architecture as Debian writes it.
	Architecture string
	// Neighbours gives what switches told by LLDP, by NIC name. It may wait for
	// a while, as long as ctx lives; nil: nobody listens.
	Neighbours func(ctx context.Context) (map[string][]*hardware.LLDPNeighbour, error)
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// part is one piece of an inventory. read fills its own fields of the collection
// and may fill some even when it fails.
type part struct {
	name string
	read func(ctx context.Context, c *hardware.Collection) error
}

// partLimit bounds the wait for one part. Reads of sysfs cannot be interrupted;
// a part that hangs is left out, and its goroutine ends with the hang.
const partLimit = 90 * time.Second

// Collect reads everything. It returns within a few minutes even if devices
// hang, and never fails: what is missing stands in Collection.errors.
func (k Collector) Collect(ctx context.Context) *hardware.Collection {
	if k.Now == nil {
		k.Now = time.Now
	}
	start := k.Now()
	c := &hardware.Collection{TakenAt: timestamppb.New(start), AgentVersion: k.Version, Architecture: k.Architecture}
	parts := []part{
		{"kernel", k.kernel}, {"system", k.system}, {"firmware", k.firmware}, {"cpu", k.cpu}, {"memory", k.memory},
		{"dimms", k.dimms}, {"numa", k.numa}, {"pci", k.pci}, {"usb", k.usb}, {"tpm", k.tpm}, {"bmc", k.bmc},
		{"missing-firmware", k.missingFirmware}, {"nics", k.nics}, {"disks", k.disks},
	}
	var wait sync.WaitGroup
	results := make([]*hardware.Collection, len(parts))
	for i, p := range parts {
		wait.Go(func() { results[i] = k.run(ctx, p) })
	}
	wait.Wait()
	for _, r := range results {
		merge(c, r)
	}
	k.nameNICs(c)
	trim(c)
	k.Log.Info("inventory is taken", "disks", len(c.Disks), "nics", len(c.Nics), "pci", len(c.PciDevices),
		"errors", len(c.Errors), "bytes", proto.Size(c), "elapsed", k.Now().Sub(start).Round(time.Millisecond))
	return c
}

// run reads one part into a collection of its own, so that a part that hangs
// cannot write into what is sent.
func (k Collector) run(ctx context.Context, p part) *hardware.Collection {
	ctx, cancel := context.WithTimeout(ctx, partLimit)
	defer cancel()
	done := make(chan *hardware.Collection, 1)
	go func() {
		c := &hardware.Collection{}
		if err := guarded(func() error { return p.read(ctx, c) }); err != nil {
			c.Errors = append(c.Errors, failure(p.name, err))
		}
		done <- c
	}()
	select {
	case c := <-done:
		return c
	case <-ctx.Done():
		return &hardware.Collection{Errors: []*hardware.CollectionError{failure(p.name, fmt.Errorf("no answer: %w", context.Cause(ctx)))}}
	}
}

func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil { // libraries that parse what hardware says
			err = fmt.Errorf("it makes no sense: %v", p)
		}
	}()
	return f()
}

func failure(part string, err error) *hardware.CollectionError {
	return &hardware.CollectionError{Part: part, Reason: clean(err.Error(), 500)}
}

// merge adds a part. Two parts fill different fields of Memory, so messages are
// merged and not replaced.
func merge(c, part *hardware.Collection) { proto.Merge(c, part) }

// trim drops the least needed lists when a collection is too large to be taken.
func trim(c *hardware.Collection) {
	for _, drop := range []struct {
		part  string
		clear func()
	}{
		{"modules", func() { c.Modules = nil }},
		{"usb", func() { c.UsbDevices = nil }},
		{"pci", func() { c.PciDevices = nil }},
		{"missing-firmware", func() { c.MissingFirmware = nil }},
		{"dimms", func() { c.GetMemory().Dimms = nil }},
		{"neighbours", func() {
			for _, n := range c.Nics {
				n.Neighbours = nil
			}
		}},
		{"disks", func() { c.Disks = c.Disks[:min(len(c.Disks), 256)] }},
		{"nics", func() { c.Nics = c.Nics[:min(len(c.Nics), 256)] }},
	} {
		if proto.Size(c) <= MaxBytes-4096 {
			return
		}
		drop.clear()
		c.Errors = append(c.Errors, &hardware.CollectionError{Part: drop.part, Reason: fmt.Sprintf("left out: the collection was larger than %d bytes", MaxBytes)})
	}
}

// clean keeps printable text with single blanks, at most limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// read gives a small attribute file as clean text, empty when it is not there.
func (k Collector) read(path string) string {
	s, err := k.Host.ReadString(path)
	if err != nil {
		return ""
	}
	return clean(s, 256)
}
