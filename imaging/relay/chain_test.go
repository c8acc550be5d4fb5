package relay

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// chain gives members of which each reads from the one before it.
func chain(t *testing.T, img image, count int, change ...func(*Options)) []*member {
	t.Helper()
	var members []*member
	for i := range count {
		members = append(members, newMember(t, img, fmt.Sprintf("machine-%d", i), change...))
		if i > 0 {
			members[i].SetUpstream(members[i-1].peer())
		}
	}
	return members
}

func writeAll(t *testing.T, members []*member) {
	t.Helper()
	group, ctx := errgroup.WithContext(deadline(t))
	for _, m := range members {
		group.Go(func() error { return m.write(ctx) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		m.check()
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	img := newImage(200)
	members := chain(t, img, 5, func(o *Options) { o.Stall = 10 * time.Second }) // tests have to wait for a CPU at times
	writeAll(t, members)
	var egress int64
	for i, m := range members {
		egress += m.floor.bytes.Load()
		s := m.State()
		if s.FailedUpstream != "" || !s.Done || s.Position != img.m.PackedSizeBytes {
			t.Errorf("machine %d: got state %+v, want done without a failure", i, s)
		}
		if got, want := s.FromFloor+s.FromPeers, img.m.FetchBytes(); got < want || got > want+want/10 {
			t.Errorf("machine %d: got %d bytes from the floor and from peers, want %d", i, got, want)
		}
	}
	if want := int64(len(img.packed)); egress > want+want/10 {
		t.Errorf("got %d bytes from the floor for five machines, want about the %d of one image", egress, want)
	}
}
