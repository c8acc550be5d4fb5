//go:build vm

package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/tools/bmcsim"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
	"github.com/ingot-metal/ingot/vmtest/disk"
	"github.com/ingot-metal/ingot/vmtest/lan"
	"github.com/ingot-metal/ingot/vmtest/qemu"
)

// go test -tags vm ./tools/bmcsim/vm: real QEMU, driven by ipmitool, in a
// network namespace in which the test binary starts itself again.
func TestMain(m *testing.M) {
	if os.Getenv("INGOT_VM_TEST_INSIDE") != "" {
		os.Exit(m.Run())
	}
	c := lan.Command(context.Background(), "/proc/self/exe", os.Args[1:]...)
	c.Env = append(c.Env, "INGOT_VM_TEST_INSIDE=1")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	err := lan.Explain(c.Run())
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writer is a boot sector that writes 2 MiB from LBA 2048 on, 64 sectors a
// time, through the BIOS, which never flushes; then it says so and halts, or
// resets.
func writer(reset bool) []byte {
	b := []byte{
		0x31, 0xc0, 0x8e, 0xd8, 0xb9, 0x40, 0x00, 0xbe, 0x2c, 0x7c,
		0xb8, 0x00, 0x43, 0xb2, 0x80, 0x51, 0x56, 0xcd, 0x13, 0x5e, 0x59, 0x83, 0x44, 0x08, 0x40, 0xe2, 0xef,
		0xba, 0xf8, 0x03, 0xbe, 0x3c, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xf4, 0xeb, 0xfd,
		0x10, 0x00, 0x40, 0x00, 0x00, 0x7c, 0x00, 0x00, 0x00, 0x08, 0, 0, 0, 0, 0, 0,
	}
	b = append(b, "WRITTEN\r\n\x00"...)
	if reset { // jump over the message's end to code that resets by port 0xcf9
		at := len(b)
		b = append(b, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd)
		b[0x29], b[0x2a], b[0x2b] = 0xe9, byte(at-0x2c), 0
	}
	b = append(b, make([]byte, 510-len(b))...)
	return append(b, 0x55, 0xaa)
}

type lab struct {
	t    *testing.T
	hw   *Hardware
	bmc  *bmcsim.BMC
	disk *disk.Disk
}

var (
	theLAN *lan.LAN
	nextIP byte = 10
)

func build(t *testing.T, sector []byte) *lab {
	t.Helper()
	if theLAN == nil {
		l, err := lan.Up(lan.Config{})
		if err != nil {
			t.Fatal(err)
		}
		theLAN = l
	}
	nextIP++
	tap, ip := fmt.Sprint("tap", nextIP), netip.AddrFrom4([4]byte{10, 99, 0, nextIP})
	if err := errors.Join(theLAN.AddTap(tap), theLAN.AddAddress(netip.PrefixFrom(ip, 24))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/d.raw", sector, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(disk.Config{Path: dir + "/d.raw", Socket: dir + "/d", Size: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	con, err := qemu.NewConsole(dir + "/console.log")
	if err != nil {
		t.Fatal(err)
	}
	hw, err := New(qemu.Config{
		Name: "m1", UUID: uuid.New(), Serial: "SN1", MemoryMiB: 128, Firmware: qemu.BIOS, Dir: dir, Console: con,
		NICs: []qemu.NIC{{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, nextIP}, Tap: tap, PXEROM: true}},
		// Not virtio: a driver that does not know flushes, like SeaBIOS's, gets a
		// write-through disk from QEMU.
		Disks: []qemu.Disk{{Bus: qemu.NVMe, Serial: "D1", NBD: d.Socket()}},
		IPMI:  dir + "/ipmi",
	}, []*disk.Disk{d}, 7)
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.New(machine.Config{Hardware: hw, Firmware: machine.BIOS, Record: dir + "/record.json"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bmcsim.New(bmcsim.Config{
		Machine: m, IPMIAddr: ip.String() + ":623", RedfishAddr: ip.String() + ":443",
		VMSocket: dir + "/ipmi", User: "admin", Password: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), d.Close(), con.Close()); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, hw, b, d}
}

func (l *lab) ipmi(args ...string) {
	l.t.Helper()
	host, _, _ := net.SplitHostPort(l.bmc.IPMIAddr())
	out, err := exec.Command("ipmitool", append([]string{"-I", "lanplus", "-C", "17", "-H", host, "-U", "admin", "-P", "secret"}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("ipmitool %v: %v\n%s", args, err, out)
	}
}

func (l *lab) until(ok func(machine.Snapshot) bool) machine.Snapshot {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	s, err := l.bmc.Machine().Wait(ctx, ok)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// written waits until all 64 writes of so many POSTs have reached the disk.
func (l *lab) written(posts int64) {
	l.t.Helper()
	for range 600 {
		if l.disk.Stats().BytesWritten >= posts*2<<20 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Fatal("the guest wrote nothing")
}

func off(s machine.Snapshot) bool { return !s.On }

// A BMC's hard power-off loses what the guest did not flush; its reset does
// not.
func TestPowerCutLosesWrites(t *testing.T) {
	l := build(t, writer(false))
	l.ipmi("power", "on")
	l.written(1)
	l.ipmi("power", "reset")
	l.until(func(s machine.Snapshot) bool { return s.Counters.Resets == 1 })
	if got := l.hw.Losses(); len(got) != 0 {
		t.Fatalf("a reset cut the disks' power: %+v", got)
	}
	l.written(2)
	l.ipmi("power", "off")
	l.until(off)
	loss := l.hw.Losses()
	if len(loss) != 1 || loss[0].Waiting != 2<<20 || loss[0].Lost == 0 || loss[0].Lost == loss[0].Waiting {
		t.Fatalf("losses %+v; want some, but not all, of 2 MiB lost", loss)
	}
	var kept, lost int
	b := make([]byte, 2<<20)
	if _, err := l.disk.ReadAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b); i += 512 * 64 {
		if bytes.Equal(b[i:i+512], make([]byte, 512)) {
			lost++
		} else {
			kept++
		}
	}
	t.Logf("%+v; of 64 first sectors %d kept, %d lost", loss, kept, lost)
	if kept == 0 || lost == 0 {
		t.Error("want both")
	}
}

func TestGuestResetsAreCounted(t *testing.T) {
	l := build(t, writer(true))
	l.ipmi("power", "on")
	s := l.until(func(s machine.Snapshot) bool { return s.Counters.GuestResets >= 3 })
	if s.Counters.PowerOns != 1 || s.Counters.Requests != 1 {
		t.Errorf("counters %+v, want one power-on and one request", s.Counters)
	}
	l.ipmi("power", "off")
	l.until(off)
}

func TestKilledQEMUIsLostPower(t *testing.T) {
	l := build(t, writer(false))
	l.ipmi("power", "on")
	l.written(1)
	p, err := os.FindProcess(l.hw.VM().Pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	s := l.until(off)
	if last := s.Events[len(s.Events)-1]; last.Kind != machine.PoweredOff || last.Source != machine.FromPlug {
		t.Errorf("recorded as %+v", last)
	}
	if loss := l.hw.Losses(); len(loss) != 1 || loss[0].Waiting == 0 {
		t.Errorf("losses %+v, want one", loss)
	}
}

func TestOverrideBootsFromNetworkOnce(t *testing.T) {
	l := build(t, writer(false))
	c, err := net.ListenPacket("udp4", ":67")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l.ipmi("chassis", "bootdev", "pxe")
	l.ipmi("power", "on")
	b := make([]byte, 2000)
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatalf("no DHCP client: %v", err)
	}
	if n < 240 || binary.BigEndian.Uint32(b[236:]) != 0x63825363 {
		t.Errorf("%d bytes that are no DHCP", n)
	}
	if got := l.disk.Stats().BytesWritten; got != 0 {
		t.Errorf("the disk was booted and wrote %d bytes", got)
	}
	l.ipmi("power", "cycle")
	l.until(func(s machine.Snapshot) bool { return s.Counters.PowerOns == 2 })
	l.written(1)
	text, _, err := l.hw.Console().Read(t.Context(), 0)
	if err != nil || !strings.Contains(string(text), "WRITTEN") {
		t.Errorf("console: %v, %q", err, text)
	}
}
