package bmc

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/ipmi"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

func TestNone(t *testing.T) {
	t.Parallel()
	if _, err := Read(host.New(t.TempDir())); !errors.Is(err, ErrNone) {
		t.Errorf("got %v, want %v", err, ErrNone)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	got := describe(&ipmi.DevID{FwRev1: 0x89, FwRev2: 0x08, IpmiVersion: 0x02, ManufacturerID: [3]byte{0xa2, 0x02, 0}})
	want := &hardware.BMC{Firmware: "9.08", IpmiVersion: "2.0", ManufacturerId: 674}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestLAN(t *testing.T) {
	t.Parallel()
	refused := errors.New("completion code 0xc1")
	mac, ip := []byte{0, 0x11, 0x52, 0x54, 0, 1, 2, 3}, []byte{0, 0x11, 10, 0, 0, 7}
	for name, tc := range map[string]struct {
		answers  map[[2]byte][]byte
		addr, hw string
		fails    bool
	}{
		"channel 1": {map[[2]byte][]byte{{1, 5}: mac, {1, 3}: ip}, "10.0.0.7", "52:54:00:01:02:03", false},
		"channel 8": {map[[2]byte][]byte{{1, 5}: make([]byte, 8), {8, 5}: mac, {8, 3}: ip}, "10.0.0.7", "52:54:00:01:02:03", false},
		"unset":     {map[[2]byte][]byte{{1, 5}: mac, {1, 3}: make([]byte, 6)}, "", "52:54:00:01:02:03", false},
		"half":      {map[[2]byte][]byte{{1, 5}: mac}, "", "52:54:00:01:02:03", true},
		"short":     {map[[2]byte][]byte{{1, 5}: {0}}, "", "", true},
		"none":      {nil, "", "", true},
	} {
		addr, hw, err := lan(func(channel, param byte) ([]byte, error) {
			if a, ok := tc.answers[[2]byte{channel, param}]; ok {
				return a, nil
			}
			return nil, refused
		})
		if addr != tc.addr || hw != tc.hw || (err != nil) != tc.fails {
			t.Errorf("%s: got %q, %q, %v, want %q, %q", name, addr, hw, err, tc.addr, tc.hw)
		}
	}
}
