package network

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// frame is put together by hand from IEEE 802.1AB: chassis (MAC), port
// (interface name), time to live, port description, system name, management
// address (IPv4), port VLAN 42, end.
var frame = strings.Join([]string{
	"0207" + "04" + "001122334455", "0409" + "05" + hexText("Ethernet"), "0602" + "0078", "0807" + hexText("to rack"), "0a04" + hexText("sw\n1"),
	"100c" + "05" + "01" + "0a000001" + "02" + "00000001" + "00", "fe06" + "0080c2" + "01" + "002a", "0000",
}, "")

func hexText(s string) string { return hex.EncodeToString([]byte(s)) }

func decode(t testing.TB, s string) []byte {
	t.Helper()
	data, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseLLDP(t *testing.T) {
	t.Parallel()
	got, err := parseLLDP(decode(t, frame))
	if err != nil {
		t.Fatal(err)
	}
	vlan := uint16(42)
	want := Neighbour{Chassis: "00:11:22:33:44:55", Port: "Ethernet", PortDescription: "to rack", Name: "sw 1", VLAN: &vlan, Management: "10.0.0.1", TTL: 2 * time.Minute}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("neighbour (-got +want):\n%s", diff)
	}
	for name, bad := range map[string]string{
		"empty": "", "cut": frame[:40], "no end": frame[:len(frame)-4], "wrong order": "0409" + "05" + hexText("Ethernet") + frame[:18] + "0000",
		"ends early": "0207" + "04" + "001122334455" + "0000", "short id": "020104" + "0000", "endless": frame[:len(frame)-4] + strings.Repeat("0800", 300) + "0000",
	} {
		if _, err := parseLLDP(decode(t, bad)); !errors.Is(err, errLLDP) {
			t.Errorf("%s: got %v, want %v", name, err, errLLDP)
		}
	}
}

func FuzzParseLLDP(f *testing.F) {
	f.Add(decode(f, frame))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseLLDP(data)
		if err != nil {
			return
		}
		for _, s := range []string{n.Chassis, n.Port, n.PortDescription, n.Name, n.Description} {
			if len(s) > maxTextBytes || strings.ContainsAny(s, "\n\r\x1b\x00") {
				t.Errorf("text %q is too long or holds control characters", s)
			}
		}
	})
}

func TestNeighboursAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	n := NewNeighbours(slog.New(slog.DiscardHandler))
	changed := n.Changed()
	now := time.Now()
	for i := range 20 {
		n.remember("eth0", Neighbour{Chassis: fmt.Sprint(i), TTL: time.Hour}, now)
	}
	<-changed
	if got := n.On("eth0"); len(got) != maxNeighbours || got[maxNeighbours-1].Chassis != "19" {
		t.Errorf("got %d neighbours, want the newest %d", len(got), maxNeighbours)
	}
	n.remember("eth0", Neighbour{Chassis: "19"}, now)
	n.remember("eth0", Neighbour{Chassis: "18", Name: "again", TTL: time.Hour}, now)
	n.remember("eth0", Neighbour{Chassis: "17", TTL: time.Second}, now.Add(-time.Minute))
	got := n.On("eth0")
	if len(got) != maxNeighbours-2 || got[len(got)-1].Name != "again" {
		t.Errorf("got %d neighbours, want %d: 19 was taken back, 17 is over", len(got), maxNeighbours-2)
	}
}
