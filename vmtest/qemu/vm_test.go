//go:build vm

package qemu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/vmtest/disk"
	"github.com/ingot-metal/ingot/vmtest/lan"
	"github.com/ingot-metal/ingot/vmtest/qemu/nvram"
)

// These tests boot real firmware: go test -tags vm ./vmtest/qemu. The
// test binary starts itself again inside a network namespace.

func TestMain(m *testing.M) {
	if os.Getenv("INGOT_QEMU_TEST_INSIDE") == "" {
		c := lan.Command(context.Background(), "/proc/self/exe", os.Args[1:]...)
		c.Env = append(c.Env, "INGOT_QEMU_TEST_INSIDE=1")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		err := lan.Explain(c.Run())
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var theLAN *lan.LAN

func network(t *testing.T) *lan.LAN {
	t.Helper()
	if theLAN == nil {
		l, err := lan.Up(lan.Config{})
		if err != nil {
			t.Fatal(err)
		}
		theLAN = l
	}
	return theLAN
}

// dhcpSeen listens as a DHCP server that never answers, and reports the MAC
// and class of each client that asks.
func dhcpSeen(t *testing.T) <-chan string {
	t.Helper()
	c, err := net.ListenPacket("udp4", ":67")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	seen := make(chan string, 100)
	go func() {
		b := make([]byte, 2000)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 240 {
				class := "?"
				if i := strings.Index(string(b[240:n]), "Client:Arch:"); i >= 4 {
					class = string(b[240+i-4 : 240+i+17])
				}
				seen <- net.HardwareAddr(b[28:34]).String() + " " + class
			}
		}
	}()
	return seen
}

var mac = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}

func start(t *testing.T, cfg Config, b Boot) *VM {
	t.Helper()
	cfg.UUID = uuid.MustParse("5d1c2f60-5a1e-4c5e-9a3d-000000000001")
	vm, err := Start(t.Context(), cfg, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vm.Kill() })
	return vm
}

func testDisk(t *testing.T, content []byte) *disk.Disk {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/d.raw", content, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(disk.Config{Path: dir + "/d.raw", Socket: dir + "/s", Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// bootSector prints text on the serial port, then runs code.
func bootSector(text string, code ...byte) []byte {
	if code == nil {
		code = []byte{0xf4, 0xeb, 0xfd} // halt
	}
	b := []byte{0x31, 0xc0, 0x8e, 0xd8, 0xba, 0xf8, 0x03, 0xbe, 0, 0, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8}
	b = append(b, code...)
	binary.LittleEndian.PutUint16(b[8:], 0x7c00+uint16(len(b)))
	b = append(b, text...)
	b = append(b, make([]byte, 510-len(b))...)
	return append(b, 0x55, 0xaa)
}

// resetCode writes 6 to port 0xcf9.
var resetCode = []byte{0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd}

func expect(t *testing.T, vm *VM, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := vm.WaitConsole(ctx, regexp.MustCompile(regexp.QuoteMeta(text))); err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, vm *VM) Reason {
	t.Helper()
	select {
	case <-vm.Done():
		return vm.Reason()
	case <-time.After(60 * time.Second):
		t.Fatal("QEMU did not end")
		return ""
	}
}

func client(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	limit := time.After(90 * time.Second)
	for {
		select {
		case got := <-seen:
			if strings.Contains(got, want) && strings.HasPrefix(got, mac.String()) {
				return
			}
			t.Logf("DHCP client %s", got)
		case <-limit:
			t.Fatalf("no DHCP client %s", want)
		}
	}
}

func TestBIOSBootsEachBus(t *testing.T) {
	network(t)
	for _, bus := range []Bus{VirtioBlk, NVMe, SCSI, SATA} {
		t.Run(string(bus), func(t *testing.T) {
			d := testDisk(t, bootSector("DISK BOOT"))
			vm := start(t, Config{Name: "b", Dir: t.TempDir(), Firmware: BIOS, MemoryMiB: 128,
				Disks: []Disk{{Bus: bus, Serial: "D1", NBD: d.Socket()}}}, Boot{})
			expect(t, vm, "DISK BOOT")
			if err := vm.Kill(); err != nil || vm.Reason() != Killed {
				t.Errorf("kill: %v, reason %s", err, vm.Reason())
			}
		})
	}
}

func TestBIOSGuestReset(t *testing.T) {
	d := testDisk(t, bootSector("RESETTING", resetCode...))
	vm := start(t, Config{Name: "r", Dir: t.TempDir(), Firmware: BIOS, MemoryMiB: 128,
		Disks: []Disk{{NBD: d.Socket()}}}, Boot{})
	if got := ended(t, vm); got != GuestReset {
		t.Errorf("reason %q, want %q", got, GuestReset)
	}
}

func TestBIOSOverrideToPXE(t *testing.T) {
	l := network(t)
	if err := l.AddTap("tapb"); err != nil {
		t.Fatal(err)
	}
	defer l.RemoveTap("tapb")
	d, seen := testDisk(t, bootSector("DISK BOOT")), dhcpSeen(t)
	cfg := Config{Name: "p", Dir: t.TempDir(), Firmware: BIOS, MemoryMiB: 128,
		Disks: []Disk{{NBD: d.Socket()}}, NICs: []NIC{{MAC: mac, Tap: "tapb", PXEROM: true}}}
	vm := start(t, cfg, Boot{Device: PXE})
	client(t, seen, "PXEClient:Arch:00000")
	_ = vm.Kill()
	expect(t, start(t, cfg, Boot{}), "DISK BOOT")
}

// espDisk is a GPT disk with an ESP whose default loader is GRUB with a script.
func espDisk(t *testing.T, script string) *disk.Disk {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	if err := os.WriteFile(dir+"/early.cfg", []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	run("grub-mkimage", "-O", "x86_64-efi", "-c", "early.cfg", "-p", "/", "-o", "BOOTX64.EFI", "serial", "terminal", "echo", "reboot", "halt", "sleep", "normal")
	run("truncate", "-s", "64M", "esp")
	run("sh", "-c", "echo 'label: gpt\nstart=2048, size=100000, type=U' | /sbin/sfdisk -q esp")
	run("/sbin/mkfs.vfat", "--offset", "2048", "esp", "50000")
	run("mmd", "-i", "esp@@1M", "::EFI", "::EFI/BOOT")
	run("mcopy", "-i", "esp@@1M", "BOOTX64.EFI", "::EFI/BOOT/BOOTX64.EFI")
	b, err := os.ReadFile(filepath.Join(dir, "esp"))
	if err != nil {
		t.Fatal(err)
	}
	return testDisk(t, b)
}

func dump(t *testing.T, cfg Config) {
	s, err := nvram.Open(cfg.Varsfile())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range s.Options() {
		t.Log(o)
	}
	t.Logf("BootOrder %04X", s.Order())
}

// The whole life of a UEFI machine's boot order: an empty disk falls through
// to PXE; once there is a system on the disk it boots; BootNext goes to PXE
// once and leaves BootOrder as it was; the next boot is the disk's again.
func TestUEFIBootNext(t *testing.T) {
	l := network(t)
	if err := l.AddTap("tapu"); err != nil {
		t.Fatal(err)
	}
	defer l.RemoveTap("tapu")
	seen, dir := dhcpSeen(t), t.TempDir()
	cfg := Config{Name: "u", Dir: dir, Firmware: UEFI, MemoryMiB: 256, NICs: []NIC{{MAC: mac, Tap: "tapu"}}}

	empty := testDisk(t, nil)
	cfg.Disks = []Disk{{Serial: "D1", NBD: empty.Socket()}}
	begin := time.Now()
	vm := start(t, cfg, Boot{})
	client(t, seen, "PXEClient:Arch:00007")
	t.Logf("empty disk: DHCP after %v", time.Since(begin))
	_ = vm.Kill()

	dump(t, cfg)
	full := espDisk(t, "echo DISK BOOT\nreboot\n")
	cfg.Disks[0].NBD = full.Socket()
	vm = start(t, cfg, Boot{Device: HDD})
	expect(t, vm, "DISK BOOT")
	if got := ended(t, vm); got != GuestReset {
		t.Errorf("GRUB's reboot ended QEMU with %q, want %q", got, GuestReset)
	}

	dump(t, cfg)
	s, err := nvram.Open(cfg.Varsfile())
	if err != nil {
		t.Fatal(err)
	}
	order := s.Order()
	diskOption := nvram.Find(s.Options(), nvram.Disk, nil)
	pxe := nvram.Find(s.Options(), nvram.PXE4, mac)
	if len(diskOption) == 0 || len(pxe) == 0 {
		t.Fatal("the firmware has no option for disk or PXE")
	}
	if err := s.SetOrder(append([]uint16{diskOption[0].Number}, slices.DeleteFunc(order, func(n uint16) bool { return n == diskOption[0].Number })...)); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	order = s.Order()

	for len(seen) > 0 {
		<-seen
	}
	vm = start(t, cfg, Boot{Device: PXE})
	client(t, seen, "PXEClient:Arch:00007")
	_ = vm.Kill()
	if text, _, _ := vm.Console().Read(t.Context(), vm.from); strings.Contains(string(text), "DISK BOOT") {
		t.Error("the disk was booted although BootNext says PXE")
	}
	s, err = nvram.Open(cfg.Varsfile())
	if err != nil {
		t.Fatal(err)
	}
	if _, still := s.Get("BootNext"); still {
		t.Error("BootNext was not used up")
	}
	if diff := cmp.Diff(s.Order(), order); diff != "" {
		t.Errorf("BootOrder changed (-got +want):\n%s", diff)
	}
	vm = start(t, cfg, Boot{})
	expect(t, vm, "DISK BOOT")
}

func TestUEFIHTTP(t *testing.T) {
	l := network(t)
	if err := l.AddTap("taph"); err != nil {
		t.Fatal(err)
	}
	defer l.RemoveTap("taph")
	seen := dhcpSeen(t)
	cfg := Config{Name: "h", Dir: t.TempDir(), Firmware: UEFIHTTP, MemoryMiB: 256, NICs: []NIC{{MAC: mac, Tap: "taph"}}}
	vm := start(t, cfg, Boot{})
	client(t, seen, "HTTPClient:Arch:00016")
	if err := vm.PressPower(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestQEMUDies(t *testing.T) {
	cfg := Config{Name: "x", Dir: t.TempDir(), Firmware: BIOS, MemoryMiB: 64}
	vm := start(t, cfg, Boot{})
	p, err := os.FindProcess(vm.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := ended(t, vm); got != Died || vm.Err() == nil {
		t.Errorf("reason %q, err %v; want %q and an error", got, vm.Err(), Died)
	}
	cfg.Extra = []string{"-device", "no-such-thing"}
	cfg.UUID = uuid.New()
	if _, err := Start(t.Context(), cfg, Boot{}); err == nil || !strings.Contains(err.Error(), "no-such-thing") {
		t.Errorf("a refused start gives %v, want QEMU's own words", err)
	}
}

func TestProbeKVM(t *testing.T) {
	begin := time.Now()
	works, err := ProbeKVM(t.Context(), t.TempDir()+"/kvm")
	t.Logf("KVM works: %v, %v, after %v", works, err, time.Since(begin))
	if err != nil {
		t.Error(err)
	}
}
