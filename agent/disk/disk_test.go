package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// plant makes a tree from a file of lines "path = content" and "path -> target";
// \xNN in a content is one byte.
func plant(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if path, target, ok := strings.Cut(line, " -> "); ok {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
			must(t, os.Symlink(target, filepath.Join(root, path)))
		} else if path, content, ok := strings.Cut(line, " = "); ok {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
			content = strings.NewReplacer(`\x00`, "\x00", `\x80`, "\x80", `\x08`, "\x08").Replace(content)
			must(t, os.WriteFile(filepath.Join(root, path), []byte(content+"\n"), 0o644))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	disks, err := disk.List(host.New(plant(t, "lab.tree")))
	if err != nil {
		t.Fatal(err)
	}
	var got []*hardware.Disk
	for _, d := range disks {
		got = append(got, d.Info)
	}
	want := []*hardware.Disk{
		{Name: "nvme0n1", ByPath: "by-path/pci-0000:00:05.0-nvme-1", Serial: "NVME1", Wwn: "nvme.1b36-4e564d4531-51454d55-00000001",
			Model: "QEMU NVMe Ctrl", Firmware: "7.2", SizeBytes: 4 << 30, LogicalSectorBytes: 4096, PhysicalSectorBytes: 4096,
			Kind: hardware.DiskKind_DISK_KIND_NVME, Transport: "pcie"},
		{Name: "sda", ByPath: "by-path/pci-0000:00:1f.2-ata-1", Serial: "WD-WX11", Wwn: "0x50014ee2b5e1a2b3", Vendor: "ATA",
			Model: "WDC WD4000FYYZ", Firmware: "1K03", SizeBytes: 4 << 40, LogicalSectorBytes: 512, PhysicalSectorBytes: 4096,
			Kind: hardware.DiskKind_DISK_KIND_HDD, Transport: "sata"},
		{Name: "sdb", ByPath: "by-path/pci-0000:00:04.0-scsi-0:0:1:0", Serial: "SCSI2", Vendor: "QEMU", Model: "QEMU HARDDISK", Firmware: "2.5+",
			SizeBytes: 1 << 30, LogicalSectorBytes: 512, PhysicalSectorBytes: 512, Kind: hardware.DiskKind_DISK_KIND_VIRTUAL, Transport: "virtio"},
		{Name: "sdc", ByPath: "by-path/pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0", Vendor: "AMI", Model: "Virtual HDisk0", SizeBytes: 1 << 20,
			LogicalSectorBytes: 512, PhysicalSectorBytes: 512, Removable: true, ReadOnly: true,
			Kind: hardware.DiskKind_DISK_KIND_VIRTUAL, Transport: "usb"},
		{Name: "vda", ByPath: "by-path/pci-0000:00:03.0", Serial: "VIRT1", SizeBytes: 2 << 30, LogicalSectorBytes: 512, PhysicalSectorBytes: 512,
			Kind: hardware.DiskKind_DISK_KIND_VIRTUAL, Transport: "virtio"},
	}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("disks (-got +want):\n%s", diff)
	}
	for i, want := range []bool{true, true, true, false, true} {
		if got := disks[i].Usable(); got != want {
			t.Errorf("%s usable: got %v, want %v", disks[i].Name(), got, want)
		}
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	disks, err := disk.List(host.New(plant(t, "lab.tree")))
	if err != nil {
		t.Fatal(err)
	}
	twins := append(disks, disks[0])
	readOnly := []disk.Disk{disks[3]}
	for name, tc := range map[string]struct {
		disks []disk.Disk
		s     disk.Selector
		want  string
		err   error
	}{
		"serial":         {disks, disk.Selector{Serial: "SCSI2"}, "sdb", nil},
		"both and size":  {disks, disk.Selector{Serial: "WD-WX11", WWN: "0x50014ee2b5e1a2b3", SizeBytes: 4 << 40}, "sda", nil},
		"path":           {disks, disk.Selector{ByPath: "by-path/pci-0000:00:03.0"}, "vda", nil},
		"no such":        {disks, disk.Selector{Serial: "SCSI3"}, "", disk.ErrGone},
		"one of two":     {disks, disk.Selector{Serial: "SCSI2", WWN: "0x5"}, "", disk.ErrGone},
		"other size":     {disks, disk.Selector{Serial: "SCSI2", SizeBytes: 5}, "", disk.ErrGone},
		"ambiguous":      {twins, disk.Selector{Serial: "NVME1"}, "", disk.ErrAmbiguous},
		"no disks":       {nil, disk.Selector{Serial: "NVME1"}, "", disk.ErrNone},
		"only read-only": {readOnly, disk.Selector{ByPath: readOnly[0].Info.ByPath}, "", disk.ErrNone},
		"read-only":      {disks, disk.Selector{ByPath: readOnly[0].Info.ByPath}, "", disk.ErrReadOnly},
	} {
		got, err := disk.Pick(tc.disks, tc.s)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: got %v, want %v", name, err, tc.err)
		}
		if err == nil && got.Info.Name != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.Info.Name, tc.want)
		}
	}
	if _, err := disk.Pick(disks, disk.Selector{}); err == nil {
		t.Error("empty selector: got nil, want an error")
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	d := disk.Disk{Path: "/dev/sda", Info: &hardware.Disk{Serial: "a", Wwn: "w", SizeBytes: 1}}
	for name, tc := range map[string]struct {
		other disk.Disk
		want  bool
	}{
		"same":   {disk.Disk{Path: "/dev/sda", Info: &hardware.Disk{Serial: "a", Wwn: "w", SizeBytes: 1}}, true},
		"moved":  {disk.Disk{Path: "/dev/sdb", Info: d.Info}, false},
		"serial": {disk.Disk{Path: "/dev/sda", Info: &hardware.Disk{Serial: "b", Wwn: "w", SizeBytes: 1}}, false},
		"size":   {disk.Disk{Path: "/dev/sda", Info: &hardware.Disk{Serial: "a", Wwn: "w", SizeBytes: 2}}, false},
	} {
		if got := d.Same(tc.other); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
