package nvram

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// empty is a volume with an empty store of the given size.
func empty(size int) []byte {
	raw := bytes.Repeat([]byte{0xff}, 72+size+64)
	clear(raw[:16])
	copy(raw[16:], volumeGUID)
	copy(raw[40:], "_FVH")
	le.PutUint16(raw[48:], 72)
	copy(raw[72:], storeGUID)
	le.PutUint32(raw[88:], uint32(size))
	raw[92], raw[93] = 0x5a, 0xfe
	return raw
}

func load(t *testing.T, raw []byte) *Store {
	t.Helper()
	file := t.TempDir() + "/vars.fd"
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func node(kind, sub byte, data ...byte) []byte {
	return append([]byte{kind, sub, byte(4 + len(data)), 0}, data...)
}

func option(description string, nodes ...[]byte) []byte {
	path := append(bytes.Join(nodes, nil), 0x7f, 0xff, 4, 0)
	b := le.AppendUint32(nil, 1)
	b = le.AppendUint16(b, uint16(len(path)))
	for _, u := range append(utf16.Encode([]rune(description)), 0) {
		b = le.AppendUint16(b, u)
	}
	return append(append(b, path...), "optional data"...)
}

func TestSetAndSave(t *testing.T) {
	t.Parallel()
	s := load(t, empty(4096))
	if err := s.SetOrder([]uint16{3, 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetNext(1); err != nil {
		t.Fatal(err)
	}
	if err := s.SetNext(2); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.Order(), []uint16{3, 1}); diff != "" {
		t.Errorf("BootOrder (-got +want):\n%s", diff)
	}
	if got, ok := again.Get("BootNext"); !ok || !bytes.Equal(got, []byte{2, 0}) {
		t.Errorf("BootNext %x, want 0200", got)
	}
	if n := len(again.Variables()); n != 2 {
		t.Errorf("%d valid variables, want 2", n)
	}
}

// Writing more often than there is room reclaims what was deleted, and only
// that.
func TestCompact(t *testing.T) {
	t.Parallel()
	s := load(t, empty(1024))
	if err := s.Set("Keep", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.SetNext(uint16(i)); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if got, _ := s.Get("Keep"); string(got) != "precious" {
		t.Errorf("Keep is %q", got)
	}
	if got, _ := s.Get("BootNext"); !bytes.Equal(got, []byte{99, 0}) {
		t.Errorf("BootNext %x, want 6300", got)
	}
	if err := s.Set("Big", make([]byte, 2000)); err == nil {
		t.Error("a variable larger than the store was set")
	}
}

func TestMovingVariable(t *testing.T) {
	t.Parallel()
	s := load(t, empty(4096))
	if err := s.Set("V", []byte{1}); err != nil {
		t.Fatal(err)
	}
	s.raw[s.begin+2] = stateMoving
	if got, ok := s.Get("V"); !ok || got[0] != 1 {
		t.Error("a variable whose successor was never written is lost")
	}
	copy(s.raw[s.walk(func(Variable) {}):], encode("V", []byte{2}))
	if got, _ := s.Get("V"); got[0] != 2 || len(s.Variables()) != 1 {
		t.Errorf("after its successor was written: %v of %d", got, len(s.Variables()))
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	hw := []byte{0x52, 0x54, 0, 1, 2, 3}
	pci := node(1, 1, 0, 2)
	mac := node(3, 11, append(append([]byte{}, hw...), make([]byte, 27)...)...)
	s := load(t, empty(8192))
	for i, o := range [][]byte{
		option("UiApp", node(4, 7, make([]byte, 16)...), node(4, 6, make([]byte, 16)...)),
		option("UEFI PXEv4", pci, mac, node(3, 12, make([]byte, 23)...)),
		option("UEFI HTTPv6", pci, mac, node(3, 13, make([]byte, 56)...), node(3, 24)),
		option("UEFI HTTPv4", pci, mac, node(3, 12, make([]byte, 23)...), node(3, 24)),
		option("debian", node(4, 1, make([]byte, 38)...), node(4, 4, 'x', 0, 0, 0)),
		option("UEFI Misc Device", pci),
		option("UEFI PXEv6", pci, mac, node(3, 13, make([]byte, 56)...)),
	} {
		if err := s.Set(fmt.Sprintf("Boot%04X", i), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Set("Boot00", []byte("no option")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetOrder([]uint16{4, 1}); err != nil {
		t.Fatal(err)
	}
	want := []Option{
		{4, "debian", true, Disk, nil}, {1, "UEFI PXEv4", true, PXE4, hw}, {0, "UiApp", true, App, nil},
		{2, "UEFI HTTPv6", true, HTTP6, hw}, {3, "UEFI HTTPv4", true, HTTP4, hw},
		{5, "UEFI Misc Device", true, Disk, nil}, {6, "UEFI PXEv6", true, PXE6, hw},
	}
	if diff := cmp.Diff(s.Options(), want); diff != "" {
		t.Errorf("options (-got +want):\n%s", diff)
	}
	if got := Find(s.Options(), PXE4, net.HardwareAddr{1, 2, 3, 4, 5, 6}); got != nil {
		t.Errorf("another NIC's option was found: %v", got)
	}
}

// Debian's template is what the lab really edits.
func TestDebiansTemplate(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Fatalf("%v: install Debian's package ovmf", err)
	}
	s := load(t, raw)
	if err := s.SetNext(7); err != nil {
		t.Fatal(err)
	}
	if got := len(s.Options()); got != 0 {
		t.Errorf("%d boot options in the pristine store, want none", got)
	}
}

func FuzzParse(f *testing.F) {
	raw := empty(512)
	copy(raw[100:], encode("Boot0001", option("x", node(3, 11, 1, 2, 3, 4, 5, 6))))
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		s.Options()
		if s.SetNext(1) == nil {
			if got, ok := s.Get("BootNext"); !ok || !bytes.Equal(got, []byte{1, 0}) {
				t.Errorf("BootNext reads back as %x", got)
			}
		}
	})
}
