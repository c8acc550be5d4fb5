package daemon

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// deploying makes a machine whose agent is there and that is being given an image,
// and the reader that its order makes of it.
func deploying(t *testing.T, c Config, st *store.Store, d, holder string) (image.Reader, string) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mac := net.HardwareAddr{0x00, 0x16, 0x3e, 0, 0, 9}
	m, err := st.MachineAdd(ctx, store.NewMachine{Hostname: "m1", MACs: []net.HardwareAddr{mac}}, "alice")
	must(err)
	session, err := st.SessionOpen(ctx, boot.SessionRequest{MAC: mac, Arch: "x86_64", FirmwareMode: boot.FirmwareUEFI})
	must(err)
	claim, err := st.SessionClaim(ctx, session.Nonce, bytes.Repeat([]byte{1}, 32), store.Identity{BootMAC: mac, NICs: []machine.NIC{{MAC: mac}}, BootMode: machine.BootModeUEFI, BootID: "b"})
	must(err)
	_, _, err = st.AgentOnline(ctx, m.ID, claim.BootGeneration, holder)
	must(err)
	conn, err := pgx.Connect(ctx, c.Database)
	must(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "UPDATE machine SET state = 'ready' WHERE id = $1", m.ID)
	must(err)
	op, err := st.OperationCreate(ctx, m.ID, machine.OperationDeploy,
		machine.Wish{Deploy: &machine.DeployWish{ImageDigest: d, Disk: "S1", Proof: machine.ProofNone, InstanceID: "i", ReportToken: "t"}}, "", "alice")
	must(err)
	for wake := st.Wake(ctx); ; {
		orders, err := st.OrderPendingForAgent(ctx, m.ID, claim.BootGeneration)
		must(err)
		if len(orders) == 1 {
			return image.Reader{MachineID: string(m.ID), OrderID: orders[0].ID, BootGeneration: claim.BootGeneration}, op.ID
		}
		select {
		case <-wake:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("there is no order")
		}
	}
}

// Two controllers on one database: an image that one of them imported is served
// by the other, to the machine that is being given it and only as long.
func TestImageOfAnotherController(t *testing.T) {
	t.Parallel()
	a := config(t)
	b := config(t)
	b.Database, b.KeyFile = a.Database, filepath.Join(a.DataDir, "key")
	st := opened(t, a)
	for id, c := range map[string]Config{"c-aaaa": a, "c-bbbb": b} {
		if err := os.WriteFile(filepath.Join(c.DataDir, "controller-id"), []byte(id), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := packed(t, a, 7)
	d := img.Digest.Hex()
	row := store.Image{Digest: d, Name: "x", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 20, PackedSizeBytes: img.Manifest.PackedSizeBytes, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := st.ImageRecord(t.Context(), row, "c-aaaa", "tester"); err != nil {
		t.Fatal(err)
	}
	_, stopA := started(t, a)
	_, stopB := started(t, b)
	defer func() {
		if err := stopB(); err != nil {
			t.Error(err)
		}
	}()
	reader, operation := deploying(t, a, st, d, "c-aaaa")
	ring, err := seal.EnsureFile(b.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := image.NewSigner(nil, ring.Digest("image links"))
	if err != nil {
		t.Fatal(err)
	}
	get := func(r image.Reader) (int, []byte) {
		t.Helper()
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", b.BootPort, signer.Sign(image.FramesPath(img.Digest), r, time.Now().Add(time.Minute))))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	want, err := os.ReadFile(filepath.Join(a.DataDir, "images", d, pack.FramesFile))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := get(reader); status != 200 || !bytes.Equal(body, want) {
		t.Fatalf("the other controller answered %d, %.100q", status, body)
	}
	for wake := st.Wake(t.Context()); ; <-wake {
		row, err := st.ImageGet(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(row.HostedOn, []string{"c-aaaa", "c-bbbb"}) {
			break
		}
	}
	if err := stopA(); err != nil { // its copy is not needed any more
		t.Error(err)
	}
	privately(t, b, st, signer, img.Digest, reader)
	stranger := reader
	stranger.OrderID++
	if status, body := get(stranger); status != 403 {
		t.Errorf("another order: %d, %.100q", status, body)
	}
	if _, err := st.OperationCancel(t.Context(), operation, "alice"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its deploy was cancelled", 403, func() int { status, _ := get(reader); return status })
}

// eventually waits for a status; what may be read is remembered for three seconds.
func eventually(t *testing.T, since string, want int, get func() int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got := get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ten seconds after %s the machine still gets %d, want %d", since, got, want)
		}
	}
}

// privately makes the image private: it is given no more by plain HTTP, and by
// TLS only to the machine's own certificate of this boot.
func privately(t *testing.T, c Config, st *store.Store, signer *image.Signer, d manifest.Digest, r image.Reader) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "UPDATE image SET private = true WHERE digest = $1", d.Hex()); err != nil {
		t.Fatal(err)
	}
	h := &house{c: c, id: "c-bbbb", store: st, signer: signer}
	urls, err := copies{h}.FrameURLs(t.Context(), d.Hex(), r, "127.0.0.1", time.Now().Add(time.Minute))
	if err != nil || !strings.HasPrefix(urls[0], fmt.Sprintf("https://127.0.0.1:%d/images/", c.ReportPort)) {
		t.Fatalf("links to a private image: %v, %v", urls, err)
	}
	cert, key, err := st.Authority(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := auth.OpenAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	link := func() string {
		return fmt.Sprintf("https://127.0.0.1:%d%s", c.ReportPort, signer.Sign(image.FramesPath(d), r, time.Now().Add(time.Minute)))
	}
	get := func(link string, certificates ...tls.Certificate) int {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(authority.Certificate)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(link)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	plain := fmt.Sprintf("http://127.0.0.1:%d%s", c.BootPort, signer.Sign(image.FramesPath(d), r, time.Now().Add(time.Minute)))
	eventually(t, "the image became private", 403, func() int { return get(plain) })
	for _, tc := range []struct {
		machine string
		boot    uint64
		want    int
	}{{r.MachineID, r.BootGeneration, 200}, {"other1", r.BootGeneration, 403}, {r.MachineID, r.BootGeneration + 1, 403}} {
		if got := get(link(), agentCertificate(t, authority, tc.machine, tc.boot)); got != tc.want {
			t.Errorf("certificate of %s, boot %d: got %d, want %d", tc.machine, tc.boot, got, tc.want)
		}
	}
	if got := get(link()); got != 403 {
		t.Errorf("no certificate: got %d", got)
	}
	if _, err := conn.Exec(t.Context(), "UPDATE image SET private = false WHERE digest = $1", d.Hex()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the image became public", 200, func() int { return get(plain) })
}

func agentCertificate(t *testing.T, a *auth.Authority, id string, boot uint64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := auth.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := a.SignAgent(request, id, boot, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{signed.DER}, PrivateKey: key}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	place := func(id string, addresses ...string) store.Place {
		p := store.Place{ControllerID: id}
		for _, a := range addresses {
			p.Addresses = append(p.Addresses, netip.MustParsePrefix(a))
		}
		return p
	}
	all := []store.Place{place("a", "10.1.0.1/16", "10.2.0.1/16"), place("b", "127.0.0.1/8"), place("c", "10.9.0.1/24", "10.0.0.3/24"), place("d"), place("e", "fd00::1/64"), place("f", "10.0.0.4/24")}
	for host, want := range map[string][]string{
		"10.0.0.1":   {"10.0.0.3", "10.0.0.4", "10.1.0.1"},
		"fd00::9":    {"fd00::1", "10.1.0.1", "10.9.0.1"},
		"127.0.0.1":  {"127.0.0.1", "10.1.0.1", "10.9.0.1"},
		"controller": {"10.1.0.1", "10.9.0.1", "fd00::1"},
	} {
		var got []string
		for _, p := range nearest(all, host) {
			got = append(got, p.host)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", host, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 0, "0": 0, "1500000": 1_500_000, "100K": 100_000, "500M": 500_000_000, "2G": 2e9, "8T": 8e12} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "1MB", "1KK", "M", "1.5G", "0x10", " 1", "10000000T", "99999999999999999999"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
	for _, c := range []Config{{ImageRate: "1K"}, {ImageRateSubnet: "x"}, {ImageRateMachine: "-5"}, {ImageCacheBytes: "1Q"}, {ImageSourceAllow: []string{"127.0.0.1"}}} {
		if err := c.Check(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	c := Config{ImageRate: "1G", ImageRateSubnet: "500M", ImageRateMachine: "100M", ImageCacheBytes: "1T"}
	if err := c.Check(); err != nil || c.egress.Site != 1e9 || c.egress.Subnet != 5e8 || c.egress.Machine != 1e8 || c.cache != 1e12 {
		t.Errorf("%v, %+v, %d", err, c.egress, c.cache)
	}
}
