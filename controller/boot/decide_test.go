package boot

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	const base = "http://10.0.0.1"
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	script := func(rest string) Offer {
		return Offer{File: base + "/boot/script?mac=" + mac1 + rest, IPXE: true}
	}
	pxe, http := "PXEClient:Arch:00007:UNDI:003000", "HTTPClient:Arch:00016:UNDI:003000"
	tests := []struct {
		name   string
		a      Asker
		target TargetKind
		want   Offer
	}{
		{"operating system", Asker{VendorClass: "MSFT 5.0"}, TargetAgent, Offer{}},
		{"nothing said", Asker{}, TargetAgent, Offer{}},
		{"BIOS", Asker{VendorClass: pxe, Archs: []Arch{0}}, TargetAgent, Offer{File: FileUndionly, TFTP: true}},
		{"BIOS without option 93", Asker{VendorClass: pxe}, TargetAgent, Offer{File: FileUndionly, TFTP: true}},
		{"x64", Asker{VendorClass: pxe, Archs: []Arch{7}}, TargetAgent, Offer{File: FileSNPOnly, TFTP: true}},
		{"x64 as EBC", Asker{VendorClass: pxe, Archs: []Arch{9}}, TargetDisk, Offer{File: FileSNPOnly, TFTP: true}},
		{"x64 HTTP", Asker{VendorClass: http, Archs: []Arch{16}}, TargetAgent, Offer{File: base + "/boot/ipxe.efi", VendorClass: "HTTPClient"}},
		{"HTTP without option 93", Asker{VendorClass: http}, TargetAgent, Offer{VendorClass: "HTTPClient", Note: "no loader for this firmware (architecture not told, HTTPClient)"}},
		{"ia32", Asker{VendorClass: pxe, Archs: []Arch{6}}, TargetAgent, Offer{Note: "no loader for this firmware (32-bit x86 UEFI, PXEClient)"}},
		{"arm64", Asker{VendorClass: pxe, Archs: []Arch{11}}, TargetAgent, Offer{Note: "no loader for this firmware (arm64 UEFI, PXEClient)"}},
		{"riscv", Asker{VendorClass: pxe, Archs: []Arch{27}}, TargetAgent, Offer{Note: "no loader for this firmware (architecture 27, PXEClient)"}},
		{"firmware, nothing to boot", Asker{VendorClass: pxe, Archs: []Arch{7}}, TargetNothing, Offer{Note: "nothing is offered to this machine"}},
		{"HTTP firmware, nothing to boot", Asker{VendorClass: http, Archs: []Arch{16}}, TargetNothing, Offer{VendorClass: "HTTPClient", Note: "nothing is offered to this machine"}},
		{"iPXE wins over PXEClient", Asker{IPXE: true, VendorClass: pxe, Archs: []Arch{7}, UUID: guid}, TargetAgent, script("&uuid=" + guid + "&arch=x86_64&platform=efi")},
		{"iPXE, nothing to boot", Asker{IPXE: true, Archs: []Arch{0}}, TargetNothing, script("&arch=i386&platform=pcbios")},
		{"iPXE without option 93", Asker{IPXE: true}, TargetDisk, script("&arch=${buildarch}&platform=${platform}")},
		{"iPXE arm64", Asker{IPXE: true, Archs: []Arch{11}}, TargetAgent, script("&arch=arm64&platform=efi")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.a.MAC = mac
			if d := cmp.Diff(Decide(tt.a, tt.target, base), tt.want); d != "" {
				t.Errorf("got - want +\n%s", d)
			}
		})
	}
}

func TestUUIDs(t *testing.T) {
	t.Parallel()
	raw := []byte{0, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if got, want := UUIDFromOption(raw), "00112233-4455-6677-8899-aabbccddeeff"; got != want {
		t.Errorf("option 97: got %q, want %q", got, want)
	}
	for _, b := range [][]byte{nil, raw[:16], append([]byte{1}, raw[1:]...), make([]byte, 17)} {
		if got := UUIDFromOption(b); got != "" {
			t.Errorf("option 97 %x: got %q, want none", b, got)
		}
	}
	if got, err := CanonicalUUID("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"); got != "" || err != nil {
		t.Errorf("all ones: got %q, %v; want none", got, err)
	}
}
