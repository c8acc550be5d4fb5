package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/controller/metadata"
)

// What the controller renders is what this system reads.
func TestReadSeedOfController(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xAB}
	in := metadata.Seed{
		InstanceID: "i-1", Hostname: "web1", SSHKeys: []string{testKey + " a", testKey + " b"},
		UserData: []byte("#cloud-config\nssh_authorized_keys: [k1]\nusers: [default, {name: u, ssh_authorized_keys: [k2]}]\n"),
		Network:  metadata.Network{BootMAC: mac, OtherMACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}},
	}
	files, err := in.Render()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readSeed(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := seed{
		InstanceID: "i-1", Hostname: "web1", SSHKeys: []string{testKey + " a", testKey + " b", "k1", "k2"},
		UserData: in.UserData, VendorData: []byte("#cloud-config\n{}\n"), Network: []nic{{MAC: "52:54:00:00:00:ab"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIu6wE+ffVBv4VSkpvwGmYyQ3FzWr0LQbwfFGZVRvXQz"

func TestReadSeedBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := readSeed(dir); err == nil {
		t.Error("a seed without meta-data was read")
	}
	if err := os.WriteFile(filepath.Join(dir, "meta-data"), make([]byte, maxSeedFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readSeed(dir); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("meta-data above the bound: got error %v", err)
	}
}

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     []nic
	}{
		{"empty", "", nil},
		{"under network", "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}", []nic{{Name: "eth0"}}},
		{"upper case", "ethernets: {x: {match: {macaddress: 'AA:BB:CC:00:11:22'}, dhcp4: true}}", []nic{{MAC: "aa:bb:cc:00:11:22"}}},
		{"no DHCP", "ethernets: {x: {match: {macaddress: 'aa:bb:cc:00:11:22'}}}", nil},
		{"optional last", "ethernets: {a: {dhcp4: true, optional: true}, b: {dhcp4: true}}", []nic{{Name: "b"}, {Name: "a", Optional: true}}},
	} {
		got, err := parseNetwork([]byte(c.in))
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got):\n%s", c.name, err, diff)
		}
	}
	if _, err := parseNetwork([]byte("\t:")); err == nil {
		t.Error("broken YAML was accepted")
	}
}

func FuzzParseNetwork(f *testing.F) {
	f.Add([]byte("ethernets: {x: {match: {macaddress: 'aa:bb:cc:00:11:22'}, dhcp4: true}}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = parseNetwork(in) // it must return
		userKeys(append([]byte("#cloud-config\n"), in...))
	})
}

func TestFatLabel(t *testing.T) {
	t.Parallel()
	sector := func(set map[int]string) string {
		b := make([]byte, 512)
		b[510], b[511] = 0x55, 0xaa
		for at, text := range set {
			copy(b[at:], text)
		}
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		set  map[int]string
		want string
	}{
		{"FAT16", map[int]string{38: "\x29", 43: "cidata     ", 54: "FAT16   "}, seedLabel},
		{"FAT32", map[int]string{66: "\x29", 71: "CIDATA     ", 82: "FAT32   "}, seedLabel},
		{"other", map[int]string{38: "\x29", 43: "EFI        ", 54: "FAT12   "}, "EFI"},
		{"no FAT", map[int]string{43: "CIDATA     "}, ""},
		{"no signature byte", map[int]string{43: "CIDATA     ", 54: "FAT12   "}, ""},
	} {
		if got := fatLabel(sector(c.set)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRootUUIDOnDisk(t *testing.T) {
	t.Parallel()
	b := make([]byte, 4096)
	b[1024+0x38], b[1024+0x39] = 0x53, 0xef
	for i := range 16 {
		b[1024+0x68+i] = byte(i)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	got, ok := extUUID(path)
	want, err := rootUUID("quiet root=UUID=00010203-0405-0607-0809-0A0B0C0D0E0F rw")
	if !ok || err != nil || got != want {
		t.Errorf("got %q (%v), want %q (%v)", got, ok, want, err)
	}
	if _, err := rootUUID("root=/dev/vda1"); err == nil {
		t.Error("a command line without root=UUID= was accepted")
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"i-1.x/y":      "i-1.x/y",
		"":             "",
		"a b=c":        `"a b=c"`,
		"a\nforged: x": `"a\nforged: x"`,
		"\x1b[2J":      `"\x1b[2J"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q): got %s, want %s", in, got, want)
		}
	}
}
