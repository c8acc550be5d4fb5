package store_test

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

func recorded(t *testing.T, s *store.Store, digest, controller string) {
	t.Helper()
	row := store.Image{Digest: digest, Name: "x", Architecture: "amd64", Kind: "disk", SizeBytes: 1 << 20, PackedSizeBytes: 100, SectorBytes: 512, FrameBytes: 1 << 20}
	if err := s.ImageRecord(t.Context(), row, controller, "alice"); err != nil {
		t.Fatal(err)
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	digest := strings.Repeat("ab", 32)
	places := map[string]store.Place{}
	for _, id := range []string{"c1", "c2", "c3"} {
		if err := s.ControllerStart(t.Context(), id, id); err != nil {
			t.Fatal(err)
		}
		p := store.Place{ControllerID: id, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")},
			BootPort: 8080, ReportPort: 8445, APIURLs: []string{"https://" + id + ":8443"}}
		if err := s.ControllerPlace(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		places[id] = p
	}
	keep := func(id string, want bool) {
		t.Helper()
		if got, err := s.ImageCopyKeep(t.Context(), digest, id); got != want || err != nil {
			t.Errorf("keep at %s: %t, %v", id, got, err)
		}
	}
	drop := func(id string, want bool) {
		t.Helper()
		if got, err := s.ImageCopyDrop(t.Context(), digest, id); got != want || err != nil {
			t.Errorf("drop at %s: %t, %v", id, got, err)
		}
	}
	who := func(asks string, want ...string) {
		t.Helper()
		got, err := s.ImageCopyPlaces(t.Context(), digest, asks)
		var list []store.Place
		for _, id := range want {
			list = append(list, places[id])
		}
		if d := cmp.Diff(list, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%v, -want +got\n%s", err, d)
		}
	}
	keep("c1", false) // no such image
	recorded(t, s, digest, "c3")
	keep("c1", true)
	keep("c2", true)
	who("c1", "c3", "c2") // who imported it first
	who("c3", "c1", "c2")
	pulled, err := s.ImageCopiesPulled(t.Context(), "c1")
	if err != nil || !cmp.Equal(pulled, []string{digest}) {
		t.Errorf("pulled by c1: %v, %v", pulled, err)
	}
	drop("c3", false) // imported there
	drop("c1", true)
	drop("c1", false)
	storetest.Exec(t, s, "UPDATE controller SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE id = 'c3'")
	who("c1", "c2")
	drop("c2", false) // the only one that lives has it
	keep("c1", true)
	var dropped atomic.Int32
	var wg sync.WaitGroup
	for _, id := range []string{"c1", "c2"} { // the last two, at the same time
		wg.Go(func() {
			if ok, err := s.ImageCopyDrop(t.Context(), digest, id); err != nil {
				t.Error(err)
			} else if ok {
				dropped.Add(1)
			}
		})
	}
	wg.Wait()
	if dropped.Load() != 1 {
		t.Errorf("%d of the last two copies were given up", dropped.Load())
	}
}

// An agent may read an image while its order to deploy it is open, and not before,
// after, in another boot, or another image.
func TestImageGrant(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	digest, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for _, d := range []string{digest, other} {
		recorded(t, s, d, "c1")
	}
	m := added(t, s, mac(1))
	boot := bootUp(t, s, mac(1), "").BootGeneration
	storetest.Exec(t, s, "UPDATE machine SET state = 'ready' WHERE id = $1", m.ID)
	wish := &machine.DeployWish{ImageDigest: digest, Disk: "S1", Proof: machine.ProofNone, InstanceID: "i", ReportToken: "t"}
	_, err := s.OperationCreate(t.Context(), m.ID, machine.OperationDeploy, machine.Wish{Deploy: wish}, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	snap := claimOne(t, s)
	order := agentOrder(snap, "deploy", 1)
	order.Job = machine.Job{Deploy: wish}
	save(t, s, snap, machine.Decision{Orders: []machine.Order{order}, Wait: wait(time.Minute, snap)})
	list, err := s.OrderPendingForAgent(t.Context(), m.ID, boot)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d orders, %v", len(list), err)
	}
	reader := image.Reader{MachineID: string(m.ID), OrderID: list[0].ID, BootGeneration: boot}
	ask := func(name string, r image.Reader, d, refused string) {
		t.Helper()
		g, err := s.ImageGrant(t.Context(), r, d)
		if err != nil || (refused == "") != (g.Refused == "") || !strings.Contains(g.Refused, refused) {
			t.Errorf("%s: got %q, %v; want %q", name, g.Refused, err, refused)
		}
		if refused == "" && (g.Owner != "1/alice" || g.Private) {
			t.Errorf("%s: %+v", name, g)
		}
	}
	ask("open", reader, digest, "")
	ask("another image", reader, other, "another image")
	strange := reader
	strange.OrderID++
	ask("no order", strange, digest, "no such order")
	strange = reader
	strange.MachineID = "other1"
	ask("another machine", strange, digest, "no such order")
	strange = reader
	strange.BootGeneration++
	ask("a later boot", strange, digest, "another boot")
	for _, tc := range []struct{ do, undo, says string }{
		{"UPDATE operation SET cancel_asked = true", "UPDATE operation SET cancel_asked = false", "cancelled"},
		{"UPDATE machine SET approved = false", "UPDATE machine SET approved = true", "not approved"},
		{"UPDATE machine_order SET state = 'superseded'", "UPDATE machine_order SET state = 'delivered'", "has ended"},
		{"UPDATE operation SET state = 'failed', reason = 'x', finished_at = now()", "UPDATE operation SET state = 'running', finished_at = NULL", "has ended"},
	} {
		storetest.Exec(t, s, tc.do)
		ask(tc.do, reader, digest, tc.says)
		storetest.Exec(t, s, tc.undo)
	}
	ask("open again", reader, digest, "")
	// What is not known to be public is not given away as if it were.
	storetest.Exec(t, s, "DELETE FROM image WHERE digest = $1", digest)
	if g, err := s.ImageGrant(t.Context(), reader, digest); err != nil || g.Refused == "" && !g.Private {
		t.Errorf("an image without a row: got %+v, %v; want it private or refused", g, err)
	}
	bootUp(t, s, mac(1), "")
	ask("after another boot", reader, digest, "another boot")
}
