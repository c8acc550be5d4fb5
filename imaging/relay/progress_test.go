package relay

import (
	"io"
	"testing"
	"time"
)

// TestPosition: what is missing is what was asked for and did not come back, and
// what was passed over a moment ago.
func TestPosition(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	now := time.Unix(1e9, 0)
	n, err := NewNode(img.m, img.digest, &floor{packed: img.packed}, Options{MachineID: "m", Key: testKey, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(t.Context())
	offset := func(i int) uint64 { return img.m.Frames[i].Offset }
	want := func(what string, want uint64) {
		t.Helper()
		if got := n.State().Position; got != want {
			t.Errorf("%s: got position %d, want %d", what, got, want)
		}
	}
	open := func(first, last int) io.ReadCloser {
		t.Helper()
		end := offset(last) + uint64(img.m.Frames[last].PackedSize)
		body, err := n.Range(t.Context(), int64(offset(first)), int64(end-offset(first)))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	put := func(frames ...int) {
		for _, i := range frames {
			n.Put(i, img.packed[offset(i):][:img.m.Frames[i].PackedSize])
		}
	}
	want("at first", 0)
	second := open(6, 10)
	want("the second range was begun before the first", 0)
	first := open(0, 4)
	want("nothing was read", 0)
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Fatal(err)
	}
	first.Close()
	want("read and not verified", 0)
	put(0, 1, 3, 4)
	want("all but one verified", offset(2))
	put(2)
	want("first range is there", offset(6))
	if _, err := io.Copy(io.Discard, second); err != nil {
		t.Fatal(err)
	}
	second.Close()
	put(10, 9, 8, 7, 6)
	want("both are there", offset(10)+uint64(img.m.Frames[10].PackedSize))
	third := open(30, 34)
	want("frames were passed over", offset(12))
	now = now.Add(2 * skipAfter)
	want("and are not wanted", offset(30))
	third.Close()
	n.Finish()
	want("done", img.m.PackedSizeBytes)
}

// TestKept: what was read before the write is not fetched again, and is given to
// peers whatever the ring does.
func TestKept(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	first := newMember(t, img, "first", func(o *Options) { o.RingBytes = 100000 })
	second := newMember(t, img, "second")
	for _, i := range []int{0, 1, 20, 58} {
		f := img.m.Frames[i]
		first.Keep(i, img.packed[f.Offset:][:f.PackedSize])
	}
	first.Keep(2, []byte("not as long as the manifest says"))
	writeAll(t, []*member{first})
	second.SetUpstream(first.peer())
	writeAll(t, []*member{second})
	kept := uint64(0)
	for _, i := range []int{0, 1, 20, 58} {
		kept += uint64(img.m.Frames[i].PackedSize)
	}
	if got, want := uint64(first.floor.bytes.Load()), img.m.FetchBytes()-kept; got > want+1000 {
		t.Errorf("got %d bytes from the floor, want %d", got, want)
	}
	// Behind a frame that is gone the range comes from the floor to its end, so
	// that of those kept only the first two are sure to be asked for.
	if got, want := second.State().FromPeers, uint64(img.m.Frames[0].PackedSize+img.m.Frames[1].PackedSize); got < want {
		t.Errorf("got %d bytes from the peer, want at least the %d that were kept", got, want)
	}
}
