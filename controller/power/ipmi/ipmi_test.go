package ipmi

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/controller/power"
)

// startBMC runs go-ipmi's reference BMC and gives its address.
func startBMC(t *testing.T, suites ...types.CipherSuiteID) string {
	t.Helper()
	conn, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := bmc.New(bmc.DeviceInfo{DeviceID: 0x20, FirmwareMajor: 1, IPMIVersion: 0x20, ManufacturerID: 343}, [16]byte{}, mock.New())
	if suites != nil {
		b.SetCipherSuites(suites)
	}
	u, err := b.Users.Add(2, "user")
	if err != nil {
		t.Fatal(err)
	}
	u.SetPassword([]byte("pass-word"))
	u.Enabled = true
	u.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}
	srv := server.NewServer(b, conn)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ctx) // ends with the test
	}()
	t.Cleanup(func() { cancel(); srv.Close(); <-done })
	return conn.LocalAddr().String()
}

func driver(t *testing.T, rawURL, password string) power.Driver {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(power.Target{URL: u, User: "user", Password: power.NewSecret(password)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuites(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		has   []types.CipherSuiteID
		query string
		want  power.Kind
	}{
		"both":              {nil, "", ""},
		"only 17":           {[]types.CipherSuiteID{types.CipherSuiteID17}, "", ""},
		"only 3":            {[]types.CipherSuiteID{types.CipherSuiteID3}, "", ""},
		"17 asked, 3 there": {[]types.CipherSuiteID{types.CipherSuiteID3}, "?cipher=17", power.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := driver(t, "ipmi://"+startBMC(t, c.has...)+c.query, "pass-word")
			begun := time.Now()
			s, err := d.State(t.Context())
			if got := power.KindOf(err); got != c.want || err == nil && s != power.StateOff {
				t.Fatalf("got %v, %v, want kind %q", s, err, c.want)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("took %s: a suite was waited for", took)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestBootFlagsOnAPlainBMC: the reference BMC refuses parameter 0
// with "not supported" and has nothing to read back before a first write.
func TestBootFlagsOnAPlainBMC(t *testing.T) {
	t.Parallel()
	d := driver(t, "ipmi://"+startBMC(t), "pass-word")
	defer d.Close(t.Context())
	if r, err := d.BootGet(t.Context()); err != nil || r.Override.Device != power.DeviceNone {
		t.Errorf("before: got %v, %v, want none", r.Override, err)
	}
	r, err := d.BootSet(t.Context(), power.BootOverride{Device: power.DevicePXE, Once: true})
	want := power.BootOverride{Device: power.DevicePXE, Once: true, Mode: power.ModeUEFI}
	if err != nil || r.Override != want || !strings.Contains(r.Raw, "a0 04") {
		t.Errorf("got %+v, %v, want %v with the EFI bit", r, err, want)
	}
	_, err = d.BootSet(t.Context(), power.BootOverride{Device: power.DeviceHTTP})
	if power.KindOf(err) != power.ErrUnsupported {
		t.Errorf("HTTP boot: got %v, want unsupported", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, password, want string }{
		{"ipmi://h", "x", ""},
		{"ipmi://h:6230?cipher=3", "x", ""},
		{"ipmi://[fe80::1]", "x", ""},
		{"ipmi:", "x", "no host"},
		{"ipmi://h?cipher=0", "x", "cipher suite"},
		{"ipmi://h:0", "x", "port"},
		{"ipmi://h", "123456789012345678901", "at most 16 bytes"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(power.Target{URL: u, User: "user", Password: power.NewSecret(c.password)})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.url, err, c.want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := c.LocalAddr().String()
	c.Close()
	_, err = driver(t, "ipmi://"+addr, "pass-word").State(t.Context())
	if power.KindOf(err) != power.ErrUnreachable {
		t.Errorf("got %v, want unreachable", err)
	}
}

// relay stands between driver and BMC and sends forged packets before each
// real answer.
type relay struct {
	front, back *net.UDPConn
	forge       func(real []byte) [][]byte
	wg          sync.WaitGroup
}

func startRelay(t *testing.T, bmcAddr string, forge func([]byte) [][]byte) string {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", bmcAddr)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{forge: forge}
	if r.front, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if r.back, err = net.DialUDP("udp", nil, to); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() { r.run() })
	t.Cleanup(func() { r.front.Close(); r.back.Close(); r.wg.Wait() })
	return r.front.LocalAddr().String()
}

func (r *relay) run() {
	buf := make([]byte, 4096)
	for {
		n, from, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if _, err := r.back.Write(buf[:n]); err != nil {
			return
		}
		if n, err = r.back.Read(buf); err != nil {
			return
		}
		for _, p := range append(r.forge(buf[:n]), buf[:n]) {
			if _, err := r.front.WriteToUDP(p, from); err != nil {
				return
			}
		}
	}
}

// TestForgedPackets: none of them may be believed, or end the process.
func TestForgedPackets(t *testing.T) {
	t.Parallel()
	forge := func(real []byte) [][]byte {
		var out [][]byte
		for cut := 0; cut < len(real); cut += 3 {
			out = append(out, append([]byte(nil), real[:cut]...))
		}
		for _, kind := range []byte{0x00, 0x40, 0x80, 0xc0, 0x02, 0xc1} {
			for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 48, 300} {
				p := append([]byte{6, 0, 0xff, 7, 6, kind, 0xa3, 0xa2, 0xa1, 0xa0, 1, 0, 0, 0, byte(size), byte(size >> 8)}, make([]byte, size)...)
				out = append(out, p, append(p, make([]byte, 14)...))
			}
		}
		if len(real) > 40 && real[5] == 0xc0 { // a signed packet with one bit turned
			p := append([]byte(nil), real...)
			p[36] ^= 1
			out = append(out, p)
		}
		// A signature-free "power is on", as IPMI 1.5 and in clear.
		out = append(out, []byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0x81, 4, 0, 0x20, 4, 1, 0, 0x21, 0x10, 0x40, 0, 0})
		return out
	}
	d := driver(t, "ipmi://"+startRelay(t, startBMC(t), forge), "pass-word")
	defer d.Close(t.Context())
	for range 3 {
		if s, err := d.State(t.Context()); err != nil || s != power.StateOff {
			t.Fatalf("got %v, %v, want off", s, err)
		}
	}
	if err := d.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := d.State(t.Context()); err != nil || s != power.StateOn {
		t.Fatalf("got %v, %v, want on", s, err)
	}
}

// TestDowngrade: somebody who answers with weaker algorithms is refused.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	forge := func(real []byte) [][]byte {
		if real[5] != byte(types.PayloadTypeRmcpOpenSessionResponse) {
			return nil
		}
		p := append([]byte(nil), real...)
		p[16+12+4], p[16+20+4], p[16+28+4] = 0, 0, 0 // none, none, none
		return [][]byte{p}
	}
	d := driver(t, "ipmi://"+startRelay(t, startBMC(t), forge), "pass-word")
	_, err := d.State(t.Context())
	if power.KindOf(err) != power.ErrProtocol {
		t.Errorf("got %v, want a broken protocol", err)
	}
}

// FuzzGuard: whatever arrives, the guard answers yes or no.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{6, 0, 0xff, 7, 6, 0xc0, 0xa3, 0xa2, 0xa1, 0xa0, 1, 0, 0, 0, 16, 0}, byte(0))
	f.Add(make([]byte, 80), byte(0x12))
	f.Fuzz(func(t *testing.T, p []byte, asked byte) {
		g := &guard{suite: types.CipherSuiteID3, asked: asked, k1: make([]byte, 20), k2: make([]byte, 20), rakp1: make([]byte, 44)}
		if g.accept(p) && len(p) < payloadAt {
			t.Errorf("accepted % x", p)
		}
	})
}
