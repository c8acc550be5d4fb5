package store_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func TestMachineGet(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m, err := s.MachineAdd(t.Context(), store.NewMachine{Hostname: "Web-1", MACs: []net.HardwareAddr{mac(1)}}, "alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{string(m.ID), "web-1", "WEB-1", mac(1).String(), strings.ToUpper(mac(1).String())} {
		if got, err := s.MachineGet(t.Context(), word); err != nil || got.ID != m.ID {
			t.Errorf("%q: got %s, %v", word, got.ID, err)
		}
	}
	for _, word := range []string{"", "nosuch", "'; DROP TABLE machine; --", strings.Repeat("x", 1<<20), "a\x00b"} {
		_, err := s.MachineGet(t.Context(), word)
		wantKind(t, err, fault.NotFound)
	}
	_, err = s.MachineAdd(t.Context(), store.NewMachine{Hostname: "web-1", MACs: []net.HardwareAddr{mac(2)}}, "alice")
	wantKind(t, err, fault.Exists)
	_, err = s.MachineAdd(t.Context(), store.NewMachine{Hostname: "a b", MACs: []net.HardwareAddr{mac(2)}}, "alice")
	wantKind(t, err, fault.Invalid)
	_, err = s.MachineAdd(t.Context(), store.NewMachine{Hostname: "a"}, "alice")
	wantKind(t, err, fault.Invalid)
}

func TestMachineList(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	for i := range 7 {
		added(t, s, mac(byte(i)))
	}
	unapproved := bootUp(t, s, mac(9), "")
	seen := map[machine.ID]bool{}
	token := ""
	for {
		list, next, err := s.MachineList(t.Context(), store.MachineFilter{PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			seen[m.ID] = true
		}
		if token = next; token == "" {
			break
		}
	}
	if len(seen) != 8 {
		t.Errorf("got %d machines over all pages, want 8", len(seen))
	}
	no := false
	for name, f := range map[string]store.MachineFilter{
		"approved": {Approved: &no}, "hostname": {Hostname: "machine-" + string(unapproved.MachineID[:5]) + "*"}, "MAC": {MAC: mac(9)},
	} {
		list, _, err := s.MachineList(t.Context(), f)
		if err != nil || len(list) != 1 || list[0].ID != unapproved.MachineID {
			t.Errorf("by %s: got %d machines, %v", name, len(list), err)
		}
	}
	if list, _, err := s.MachineList(t.Context(), store.MachineFilter{State: machine.Ready}); err != nil || len(list) != 0 {
		t.Errorf("ready: got %d, %v", len(list), err)
	}
}

func TestMachineApproveAndDelete(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := bootUp(t, s, mac(1), "")
	m, err := s.MachineApprove(t.Context(), c.MachineID, "db-1", "alice")
	if err != nil || !m.Approved || m.Hostname != "db-1" {
		t.Fatalf("got %+v, %v", m, err)
	}
	storetest.Exec(t, s, "UPDATE machine SET state = 'deployed'")
	wantKind(t, s.MachineDelete(t.Context(), m.ID, false, "alice"), fault.Precondition)
	if err := s.MachineDelete(t.Context(), m.ID, true, "alice"); err != nil {
		t.Fatal(err)
	}
	_, err = s.MachineGet(t.Context(), string(m.ID))
	wantKind(t, err, fault.NotFound)
	trail, err := s.AuditList(t.Context(), 0, string(m.ID), 10)
	if err != nil || len(trail) != 2 || trail[1].Action != "machine.delete" || trail[1].Actor != "alice" {
		t.Errorf("got %+v, %v", trail, err)
	}
}

func TestBMC(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m, other := added(t, s, mac(1)), added(t, s, mac(2))
	_, _, err := s.BMCAccess(t.Context(), m.ID)
	wantKind(t, err, fault.Precondition)
	a := store.BMCAccess{URL: "redfish://10.0.0.9", User: "root", Password: seal.Secret("calvin")}
	if err := s.BMCSet(t.Context(), m.ID, a, "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.BMCSet(t.Context(), other.ID, a, "alice"), fault.Exists)
	wantKind(t, s.BMCSet(t.Context(), m.ID, store.BMCAccess{URL: "redfish://root:calvin@10.0.0.9"}, "alice"), fault.Invalid)
	seen := machine.BMC{URL: a.URL, Vendor: "Dell", CertificateSHA256: "AA:BB"}
	for _, pin := range []string{"AA:BB", "cc"} { // the first one is pinned
		seen.CertificateSHA256 = pin
		if err := s.BMCSeen(t.Context(), m.ID, seen); err != nil {
			t.Fatal(err)
		}
	}
	got, chip, err := s.BMCAccess(t.Context(), m.ID)
	if err != nil || got.Password.Reveal() != "calvin" || got.CertificateSHA256 != "aabb" || chip.Vendor != "Dell" {
		t.Errorf("got %+v, %+v, %v", got, chip, err)
	}
	var clear int
	storetest.Row(t, s, `SELECT (SELECT count(*) FROM bmc WHERE position('calvin'::bytea IN password_sealed) > 0)
		+ (SELECT count(*) FROM audit a WHERE a::text LIKE '%calvin%') + (SELECT count(*) FROM event e WHERE e::text LIKE '%calvin%')`, nil, &clear)
	if clear != 0 {
		t.Error("the password is in the database in clear")
	}
}

func TestAuthorityIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	other := storetest.Again(t, storetest.DSN(s))
	var wg sync.WaitGroup
	certificates := make([]string, 6)
	for i := range certificates {
		wg.Go(func() {
			from := s
			if i%2 == 0 {
				from = other
			}
			cert, key, err := from.Authority(t.Context(), func() ([]byte, []byte, error) {
				return []byte{byte(i)}, []byte{byte(i), 1}, nil
			})
			if err != nil || len(key) != 2 || key[0] != cert[0] {
				t.Errorf("got %v, %v, %v", cert, key, err)
			}
			certificates[i] = string(cert)
		})
	}
	wg.Wait()
	for _, c := range certificates {
		if c != certificates[0] {
			t.Fatal("two authorities were made")
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	s := held(t)
	older := store.Image{Digest: digest('1'), Name: "debian", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 40, SectorBytes: 512, FrameBytes: 1 << 20, KexecAllowed: true}
	newer := older
	newer.Digest = digest('2')
	for i, image := range []store.Image{older, newer, older} {
		storetest.ClockHold(t, s, epoch.AddDate(0, 0, i))
		if err := s.ImageRecord(t.Context(), image, "c1", "alice"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.ImageNamed(t.Context(), "debian"); err != nil || len(got) != 2 || got[0].Digest != newer.Digest || got[0].SizeBytes != 1<<40 || len(got[0].HostedOn) != 1 {
		t.Errorf("by name: got %+v, %v, want the newest", got, err)
	}
	if got, err := s.ImageGet(t.Context(), older.Digest); err != nil || got.Digest != older.Digest {
		t.Errorf("by digest: got %+v, %v", got, err)
	}
	if list, next, err := s.ImageList(t.Context(), "debian", 1, ""); err != nil || len(list) != 1 || next == "" {
		t.Errorf("got %v, %q, %v", list, next, err)
	}
	if err := s.ImageDelete(t.Context(), older.Digest, "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.ImageDelete(t.Context(), older.Digest, "alice"), fault.NotFound)
	_, err := s.ImageGet(t.Context(), "no such")
	wantKind(t, err, fault.NotFound)
}
