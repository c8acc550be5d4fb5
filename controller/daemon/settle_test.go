package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

func config(t *testing.T) Config {
	ports := freePorts(t, 4)
	return Config{
		DataDir: t.TempDir(), Database: storetest.Database(t), Listen: fmt.Sprintf("127.0.0.1:%d", ports[0]),
		AgentPort: ports[1], BootPort: ports[2], ReportPort: ports[3],
	}
}

func opened(t *testing.T, c Config) *store.Store {
	t.Helper()
	ring, err := seal.EnsureFile(filepath.Join(c.DataDir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), c.Database, ring, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

// packed puts an image into the directory as an import that was cut off before
// its row does.
func packed(t *testing.T, c Config, fill byte) image.Image {
	t.Helper()
	images, err := image.Open(filepath.Join(c.DataDir, "images"), image.Options{MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	img, err := images.Import(t.Context(), image.Source{Reader: bytes.NewReader(bytes.Repeat([]byte{fill}, 1<<20))}, image.Request{Format: pack.Raw, Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestCopies: after a start, disk and rows agree about the images.
func TestCopies(t *testing.T) {
	t.Parallel()
	c := config(t)
	st := opened(t, c)
	orphan, found := packed(t, c, 1), packed(t, c, 2)
	lost := strings.Repeat("ab", 32)
	for digest, by := range map[string]string{found.Digest.Hex(): "c-other", lost: "c-mine"} {
		if err := st.ControllerStart(t.Context(), by, by); err != nil {
			t.Fatal(err)
		}
		row := store.Image{Digest: digest, Name: "x", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 20, PackedSizeBytes: 100, SectorBytes: 512, FrameBytes: 1 << 20}
		if err := st.ImageRecord(t.Context(), row, by, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, "controller-id"), []byte("c-mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A directory that belonged to another database is left alone.
	ca := filepath.Join(c.DataDir, "ca.pem")
	if err := os.WriteFile(ca, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		_, stop := started(t, c)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(c.DataDir, "images", orphan.Digest.Hex())); (err == nil) != want {
			t.Errorf("the copy without a row stands: %v, want %v", err == nil, want)
		}
	}
	for digest, want := range map[string][]string{found.Digest.Hex(): {"c-mine", "c-other"}, lost: {}} {
		row, err := st.ImageGet(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		if got := row.HostedOn; !slices.Equal(got, want) {
			t.Errorf("image %s is on %v, want %v", digest[:8], got, want)
		}
	}
}

// TestClaim: a second ingotd on a data directory is told so, at once.
func TestClaim(t *testing.T) {
	t.Parallel()
	c := config(t)
	_, stop := started(t, c)
	second := config(t)
	second.DataDir = c.DataDir
	if err := second.Check(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Run(ctx, second, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "another ingotd") {
		t.Errorf("a second ingotd on one data directory: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestResetAdminToken: who lost the token gets another, and the lost one ends.
func TestResetAdminToken(t *testing.T) {
	t.Parallel()
	c := config(t)
	lines, stop := started(t, c)
	first := strings.TrimPrefix(lines[0], "admin token: ")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.ResetAdminToken = true
	lines, stop = started(t, c)
	second, ok := strings.CutPrefix(lines[0], "admin token: ")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	st := opened(t, c)
	if _, err := st.TokenCheck(t.Context(), first); err == nil {
		t.Error("the lost token is still good")
	}
	if actor, err := st.TokenCheck(t.Context(), second); !ok || err != nil || actor != adminName {
		t.Errorf("new token: %q, %v; printed %v", actor, err, ok)
	}
}

// TestEnsureRanges: the ranges are those of this start, and what was said wrongly
// is refused.
func TestEnsureRanges(t *testing.T) {
	t.Parallel()
	c := config(t)
	st := opened(t, c)
	segs := []segment{{"eth1", netip.MustParsePrefix("10.0.0.1/24")}}
	log := slog.New(slog.DiscardHandler)
	set := func(private bool, gateway string, ranges ...string) ([]string, error) {
		t.Helper()
		n := Config{DHCPRanges: ranges, Interfaces: []string{"eth1"}, Gateway: gateway}
		if !private {
			n.Database = c.Database
		}
		if err := n.Check(); err != nil {
			t.Fatal(err)
		}
		if err := ensureRanges(t.Context(), st, n, segs, log); err != nil {
			return nil, err
		}
		subnets, err := st.SubnetList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have, err := st.RangeList(t.Context(), subnets[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range have {
			out = append(out, r.First.String()+"-"+r.Last.String())
		}
		return out, nil
	}
	for _, tc := range []struct {
		name    string
		private bool
		ranges  []string
		want    []string
	}{
		{"first", true, []string{"10.0.0.100-10.0.0.110"}, []string{"10.0.0.100-10.0.0.110"}},
		{"longer", true, []string{"10.0.0.100-10.0.0.150"}, []string{"10.0.0.100-10.0.0.150"}},
		{"elsewhere", true, []string{"10.0.0.200-10.0.0.210"}, []string{"10.0.0.200-10.0.0.210"}},
		{"shared, beside", false, []string{"10.0.0.20-10.0.0.30"}, []string{"10.0.0.20-10.0.0.30", "10.0.0.200-10.0.0.210"}},
		{"shared, over", false, []string{"10.0.0.20-10.0.0.205"}, []string{"10.0.0.20-10.0.0.205"}},
		{"none", true, nil, nil},
	} {
		got, err := set(tc.private, "", tc.ranges...)
		if err != nil || !cmp.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v, want %v", tc.name, got, err, tc.want)
		}
	}
	if _, err := set(true, "10.9.9.9", "10.0.0.100-10.0.0.110"); err == nil || !strings.Contains(err.Error(), "10.9.9.9") {
		t.Errorf("a router outside the subnet: %v", err)
	}
}

type reached struct {
	net.Conn
	at net.Addr
}

func (r reached) LocalAddr() net.Addr { return r.at }

// TestLeafOfNewAddress: an address that the host got after the start is in the
// certificate.
func TestLeafOfNewAddress(t *testing.T) {
	t.Parallel()
	der, key, err := auth.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := auth.OpenAuthority(der, key)
	if err != nil {
		t.Fatal(err)
	}
	l := &leaf{authority: authority, hosts: []string{"127.0.0.1"}}
	for _, ip := range []string{"127.0.0.1", "10.0.0.7", "127.0.0.1", "fd00::7"} {
		cert, err := l.get(&tls.ClientHelloInfo{Conn: reached{at: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.Leaf.VerifyHostname(ip); err != nil {
			t.Errorf("reached by %s: %v", ip, err)
		}
	}
}

// TestSweep: while we run, a copy without a row is left alone until no import can
// be about to record it, and for ever if it may be another database's.
func TestSweep(t *testing.T) {
	t.Parallel()
	c := config(t)
	gone, kept := packed(t, c, 3), packed(t, c, 4)
	images, err := image.Open(filepath.Join(c.DataDir, "images"), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	st := storetest.New(t)
	if err := st.ControllerStart(t.Context(), "c-mine", "mine"); err != nil {
		t.Fatal(err)
	}
	row := store.Image{Digest: kept.Digest.Hex(), Name: "x", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 20, PackedSizeBytes: 100, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := st.ImageRecord(t.Context(), row, "c-mine", "tester"); err != nil {
		t.Fatal(err)
	}
	h := &house{c: c, id: "c-mine", log: slog.New(slog.DiscardHandler), store: st, images: images}
	for _, step := range []struct {
		age         time.Duration
		same, stays bool
	}{{time.Hour, true, true}, {0, false, true}, {0, true, false}} {
		h.same = step.same
		if err := h.compareCopies(t.Context(), step.age); err != nil {
			t.Fatal(err)
		}
		if _, err := images.Get(gone.Digest); (err == nil) != step.stays || err != nil && !errors.Is(err, image.ErrNotFound) {
			t.Errorf("%+v: the copy without a row: %v", step, err)
		}
		if _, err := images.Get(kept.Digest); err != nil {
			t.Errorf("%+v: the other copy: %v", step, err)
		}
	}
	if err := images.Delete(kept.Digest); err != nil {
		t.Fatal(err)
	}
	if err := h.compareCopies(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got, err := st.ImageGet(t.Context(), kept.Digest.Hex()); err != nil || len(got.HostedOn) != 0 {
		t.Errorf("a row whose copy is gone: on %v, %v", got.HostedOn, err)
	}
}
