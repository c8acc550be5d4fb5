package inventory_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/inventory"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// plant makes a tree from lines "path = content" and "path -> target".
func plant(t *testing.T, name string) host.Host {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		path, content, isFile := strings.Cut(line, " = ")
		link, target, isLink := strings.Cut(line, " -> ")
		if !isFile {
			path = link
		}
		path = filepath.Join(root, path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case isFile:
			content = strings.NewReplacer(`\n`, "\n", `\x00`, "\x00", `\x03`, "\x03", `\x07`, "\x07").Replace(content)
			err = os.WriteFile(path, []byte(content), 0o644)
		case isLink:
			err = os.Symlink(target, path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root)
}

func collect(t *testing.T, h host.Host) *hardware.Collection {
	t.Helper()
	return inventory.Collector{Host: h, Version: "test", BootMAC: "52:54:00:00:00:01", Architecture: "amd64",
		Neighbours: func(context.Context) (map[string][]*hardware.LLDPNeighbour, error) {
			return map[string][]*hardware.LLDPNeighbour{"ingot-t0": {{SystemName: "switch"}}}, nil
		}, Log: slog.New(slog.DiscardHandler)}.Collect(t.Context())
}

func TestCollect(t *testing.T) {
	t.Parallel()
	c := collect(t, plant(t, "lab.tree"))
	t.Logf("errors: %v", c.Errors)
	got := &hardware.Collection{System: c.System, Firmware: c.Firmware, Nics: c.Nics, NumaNodes: c.NumaNodes, Tpm: c.Tpm,
		KernelRelease: c.KernelRelease, Modules: c.Modules, PciDevices: c.PciDevices}
	want := &hardware.Collection{
		System:   &hardware.System{Vendor: "QEMU", Product: "Standard PC", Uuid: "11111111-2222-3333-4444-55555555aaaa"},
		Firmware: &hardware.Firmware{Vendor: "EFI Development Kit II", BootMode: hardware.BootMode_BOOT_MODE_UEFI, BootOrder: []uint32{3, 0}},
		Nics: []*hardware.NIC{{Name: "ingot-t0", Mac: "52:54:00:00:00:01", PermanentMac: "52:54:00:00:00:01", LinkUp: true,
			SpeedBitsPerSecond: 10_000_000_000, MtuBytes: 1500, Driver: "virtio_net", PciAddress: "0000:00:02.0", BootNic: true,
			Neighbours: []*hardware.LLDPNeighbour{{SystemName: "switch"}}}},
		NumaNodes:     []*hardware.NUMANode{{Id: 0, MemoryBytes: 512_000_000, Cpus: []uint32{0, 1, 4}, Distances: []uint32{10, 20}}},
		Tpm:           &hardware.TPM{Version: "2.0"},
		KernelRelease: "6.1.0-56-amd64", Modules: []string{"virtio_net"},
		PciDevices: []*hardware.PCIDevice{{Address: "0000:00:02.0", Class: "020000", VendorId: "1af4", ProductId: "1000", Driver: "virtio-pci"}},
	}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("collection (-got +want):\n%s", diff)
	}
	if len(c.Disks) != 1 || c.Disks[0].Serial != "V1" || c.Disks[0].Health == nil {
		t.Errorf("disks: got %v, want one with its health", c.Disks)
	}
	if got, want := c.Memory.GetUsableBytes(), uint64(1001234<<10); got != want {
		t.Errorf("usable memory: got %d, want %d", got, want)
	}
}

func TestEmptyMachine(t *testing.T) {
	t.Parallel()
	c := collect(t, host.New(t.TempDir()))
	parts := map[string]bool{}
	for _, e := range c.Errors {
		parts[e.Part] = true
	}
	for _, want := range []string{"system", "dimms", "disks", "nics", "memory"} {
		if !parts[want] {
			t.Errorf("no error tells that %s could not be read", want)
		}
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	c := collect(t, host.New("/"))
	t.Logf("%d bytes, errors %v", proto.Size(c), c.Errors)
	if c.Cpu.GetThreads() == 0 || c.Memory.GetUsableBytes() == 0 {
		t.Errorf("got %v and %v, want CPUs and memory", c.Cpu, c.Memory)
	}
}
