package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func imageIn(t *testing.T, s *store.Store, c byte) store.Image {
	t.Helper()
	i := store.Image{Digest: digest(c), Name: "debian", Version: "12", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 20, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := s.ImageRecord(t.Context(), i, "c1", "alice"); err != nil {
		t.Fatal(err)
	}
	return i
}

func keyID(n int) string { return fmt.Sprintf("%016X", n) }

// TestRecordAgain: recording a second time may make an image private, and never
// public again or another image.
func TestRecordAgain(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	i := imageIn(t, s, 'a')
	for _, private := range []bool{true, false} {
		i.Private = private
		if err := s.ImageRecord(t.Context(), i, "c2", "alice"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ImageGet(t.Context(), i.Digest); err != nil || !got.Private {
			t.Errorf("got private %v, %v, want true", got.Private, err)
		}
	}
	i.Version = "13"
	wantKind(t, s.ImageRecord(t.Context(), i, "c1", "alice"), fault.Exists)
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	i := imageIn(t, s, 'a')
	put := func(n int, text string) error {
		return s.ImageSign(t.Context(), i.Digest, store.Signature{KeyID: keyID(n), Text: []byte(text)}, "alice")
	}
	for n := range 16 {
		if err := put(n, "one"); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, put(16, "one too many"), fault.Exhausted)
	if err := put(3, "another"); err != nil {
		t.Errorf("a signature in place of an older one: %v", err)
	}
	wantKind(t, put(3, strings.Repeat("x", 1025)), fault.Invalid)
	if err := s.ImageUnsign(t.Context(), i.Digest, keyID(0), "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.ImageUnsign(t.Context(), i.Digest, keyID(0), "alice"), fault.NotFound)
	wantKind(t, s.ImageSign(t.Context(), digest('f'), store.Signature{KeyID: keyID(1), Text: []byte("x")}, "alice"), fault.NotFound)
	got, err := s.ImageGet(t.Context(), i.Digest)
	if err != nil || len(got.Signatures) != 15 || got.Signatures[2].KeyID != keyID(3) || string(got.Signatures[2].Text) != "another" {
		t.Errorf("got %v, %v", got.Signatures, err)
	}
}

func TestTrustedKeys(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	add := func(name string, n int) error {
		return s.TrustedKeyAdd(t.Context(), store.TrustedKey{Name: name, KeyID: keyID(n), PublicKey: "RW"}, "alice")
	}
	for n := range 64 {
		if err := add(fmt.Sprintf("key%02d", n), n); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, add("more", 64), fault.Exhausted)
	if err := s.TrustedKeyDelete(t.Context(), "key63", "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.TrustedKeyDelete(t.Context(), "key63", "alice"), fault.NotFound)
	wantKind(t, add("key00", 70), fault.Exists)
	wantKind(t, add("other", 1), fault.Exists)
	list, err := s.TrustedKeyList(t.Context())
	if err != nil || len(list) != 63 || list[0].Name != "key00" || list[0].CreatedBy != "alice" {
		t.Errorf("got %d keys, %v", len(list), err)
	}
	trail, err := s.AuditList(t.Context(), 0, "key63", 10)
	if err != nil || len(trail) != 2 || trail[0].Action != "trust.add" || trail[1].Action != "trust.remove" || trail[1].Detail["key"] != keyID(63) {
		t.Errorf("audit: got %v, %v", trail, err)
	}
}

func TestPools(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	m, err := s.MachineAdd(t.Context(), store.NewMachine{Hostname: "m1", UUID: "4c4c4544-0042-3510-8054-b4c04f4e4831"}, "alice")
	if err != nil || m.Pool != machine.DefaultPool {
		t.Fatalf("got pool %q, %v, want %q", m.Pool, err, machine.DefaultPool)
	}
	if err := s.PoolAdd(t.Context(), store.Pool{Name: "strict", RequireSignedImages: true}, "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.PoolAdd(t.Context(), store.Pool{Name: "strict"}, "alice"), fault.Exists)
	wantKind(t, s.PoolAdd(t.Context(), store.Pool{Name: "No Name"}, "alice"), fault.Invalid)
	if err := s.MachinePoolSet(t.Context(), m.ID, "strict", "alice"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.MachinePoolSet(t.Context(), m.ID, "gone", "alice"), fault.NotFound)
	wantKind(t, s.MachinePoolSet(t.Context(), "nobody", "strict", "alice"), fault.NotFound)
	_, err = s.MachineAdd(t.Context(), store.NewMachine{Hostname: "m2", UUID: "4c4c4544-0042-3510-8054-b4c04f4e4832", Pool: "gone"}, "alice")
	wantKind(t, err, fault.NotFound)
	for pool, want := range map[string]int{"strict": 1, "default": 0, "": 1} {
		if list, _, err := s.MachineList(t.Context(), store.MachineFilter{Pool: pool}); err != nil || len(list) != want {
			t.Errorf("machines of pool %q: got %d, %v, want %d", pool, len(list), err, want)
		}
	}
	wantKind(t, s.PoolDelete(t.Context(), "strict", "alice"), fault.Precondition)
	wantKind(t, s.PoolDelete(t.Context(), "default", "alice"), fault.Precondition)
	wantKind(t, s.PoolDelete(t.Context(), "gone", "alice"), fault.NotFound)
	off := false
	if err := s.PoolSet(t.Context(), "strict", &off, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.PoolSet(t.Context(), "strict", nil, "alice"); err != nil {
		t.Fatal(err)
	}
	got, err := s.PoolGet(t.Context(), "strict")
	if err != nil || got.RequireSignedImages || got.Machines != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := s.MachineDelete(t.Context(), m.ID, true, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.PoolDelete(t.Context(), "strict", "alice"); err != nil {
		t.Error(err)
	}
	list, err := s.PoolList(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != machine.DefaultPool {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestImageTrust(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	i := imageIn(t, s, 'a')
	got, err := s.ImageTrust(t.Context(), "default", i.Digest)
	if err != nil || got.Required || len(got.Keys)+len(got.Signatures) != 0 {
		t.Errorf("got %+v, %v, want nothing", got, err)
	}
	on := true
	if err := s.PoolSet(t.Context(), "default", &on, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.TrustedKeyAdd(t.Context(), store.TrustedKey{Name: "site", KeyID: keyID(1), PublicKey: "RW"}, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.ImageSign(t.Context(), i.Digest, store.Signature{KeyID: keyID(1), Text: []byte("x")}, "alice"); err != nil {
		t.Fatal(err)
	}
	got, err = s.ImageTrust(t.Context(), "default", i.Digest)
	if err != nil || !got.Required || len(got.Keys) != 1 || got.Keys[0].PublicKey != "RW" || len(got.Signatures) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = s.ImageTrust(t.Context(), "gone", i.Digest)
	wantKind(t, err, fault.NotFound)
	_, err = s.ImageTrust(t.Context(), "", i.Digest)
	wantKind(t, err, fault.NotFound)
}
