package boot

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/agent/host"
)

var esp = Partition{GUID: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", Number: 2, StartLBA: 2048, SizeLBA: 98304}

const loader = "/EFI/BOOT/BOOTX64.EFI"

// golden is a load option put together by hand from UEFI 2.10: attributes,
// length of the path, description, HD node, file node, end node.
var golden = strings.Join([]string{
	"01000000", "5e00", "49006e0067006f007400200078000000",
	"04012a00", "02000000", "0008000000000000", "0080010000000000", "28732ac11ff8d211ba4b00a0c93ec93b", "0202",
	"04043000", "5c004500460049005c0042004f004f0054005c0042004f004f0054005800360034002e004500460049000000",
	"7fff0400",
}, "")

func TestLoadOptionGolden(t *testing.T) {
	t.Parallel()
	path, err := devicePath(esp, loader)
	if err != nil {
		t.Fatal(err)
	}
	data, err := LoadOption{Active: true, Description: "Ingot x", DevicePath: path}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != golden {
		t.Errorf("load option:\n got %s\nwant %s", got, golden)
	}
	back, err := ParseLoadOption(data)
	if err != nil || back.Description != "Ingot x" || !back.Active || string(back.DevicePath) != string(path) {
		t.Errorf("parsed: got %+v, %v", back, err)
	}
	for name, bad := range map[string]struct {
		p    Partition
		file string
	}{
		"guid":     {Partition{GUID: "nonsense", Number: 1, StartLBA: 1, SizeLBA: 1}, loader},
		"number":   {Partition{GUID: esp.GUID, StartLBA: 1, SizeLBA: 1}, loader},
		"relative": {esp, "EFI/x"},
		"slashes":  {esp, `/EFI\x`},
	} {
		if _, err := devicePath(bad.p, bad.file); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}

func FuzzParseLoadOption(f *testing.F) {
	seed, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseLoadOption(data)
		if err != nil {
			return
		}
		if len(o.DevicePath)+len(o.Optional) > len(data) {
			t.Errorf("%d bytes gave %d of path and %d of data", len(data), len(o.DevicePath), len(o.Optional))
		}
	})
}

// fakeFirmware makes an efivarfs directory with variables (name to value).
func fakeFirmware(t *testing.T, vars map[string]string) host.Host {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, varsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range vars {
		if err := os.WriteFile(filepath.Join(dir, name+"-"+globalGUID), []byte("\x07\x00\x00\x00"+value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root)
}

func option(t *testing.T, description string) string {
	t.Helper()
	data, err := LoadOption{Active: true, Description: description, DevicePath: []byte{0x7f, 0xff, 4, 0}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOrderDiskFirst(t *testing.T) {
	t.Parallel()
	h := fakeFirmware(t, map[string]string{
		"Boot0000": option(t, "UEFI PXEv4"), "Boot0001": option(t, "Ingot older image"), "Boot0002": "\x00", // malformed: left alone
		"Boot0004": option(t, "Ingots of gold"), "BootOrder": "\x00\x00\x01\x00\x04\x00\x02\x00", "BootCurrent": "\x00\x00", "BootNext": "\x04\x00",
	})
	want := Evidence{
		Entry: "Boot0003", Description: "Ingot debian-12", Partition: esp, Loader: loader,
		Order: []string{"Boot0003", "Boot0000", "Boot0004", "Boot0002"}, Removed: []string{"Boot0001"}, Next: "Boot0004",
	}
	got, err := OrderDiskFirst(t.Context(), h, esp, loader, "debian-12")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("first call (-got +want):\n%s", diff)
	}
	want.Removed = nil
	if got, err = OrderDiskFirst(t.Context(), h, esp, loader, "debian-12"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("second call (-got +want):\n%s", diff)
	}
	other := esp
	other.GUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec9ff"
	if got, err = OrderDiskFirst(t.Context(), h, other, loader, "debian-12"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got.Order, []string{"Boot0001", "Boot0000", "Boot0004", "Boot0002"}); diff != "" {
		t.Errorf("other disk (-got +want):\n%s", diff)
	}
	entered, err := ReadEntered(h)
	if err != nil || entered != (Entered{Number: 0, Description: "UEFI PXEv4"}) {
		t.Errorf("entered: got %+v, %v", entered, err)
	}
}

func TestOrderDiskFirstOnEmptyFirmwareAndBIOS(t *testing.T) {
	t.Parallel()
	got, err := OrderDiskFirst(t.Context(), fakeFirmware(t, nil), esp, loader, "")
	if err != nil || got.Entry != "Boot0000" || got.Description != "Ingot" || len(got.Order) != 1 {
		t.Errorf("no entries yet: got %+v, %v", got, err)
	}
	bios := host.New(t.TempDir())
	if _, err := OrderDiskFirst(t.Context(), bios, esp, loader, ""); !errors.Is(err, ErrNotUEFI) {
		t.Errorf("BIOS: got %v, want %v", err, ErrNotUEFI)
	}
	if got := DetectMode(bios); got != BIOS {
		t.Errorf("mode: got %s, want %s", got, BIOS)
	}
	if _, err := ReadEntered(bios); !host.IsAbsent(err) {
		t.Errorf("entered on BIOS: got %v, want an absent error", err)
	}
}

func TestOrderDiskFirstFindsThatNothingWasKept(t *testing.T) {
	t.Parallel()
	h := fakeFirmware(t, nil)
	// A firmware that takes writes and keeps none.
	if err := os.Symlink("/dev/null", h.Path(varsDir+"/BootOrder-"+globalGUID)); err != nil {
		t.Fatal(err)
	}
	if _, err := OrderDiskFirst(t.Context(), h, esp, loader, "x"); err == nil || !strings.Contains(err.Error(), "BootOrder") {
		t.Errorf("got %v, want an error about BootOrder", err)
	}
}

func TestSecureBoot(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"\x01": true, "\x00": false, "": false} {
		if got := SecureBoot(fakeFirmware(t, map[string]string{"SecureBoot": value})); got != want {
			t.Errorf("SecureBoot %q: got %v, want %v", value, got, want)
		}
	}
}
