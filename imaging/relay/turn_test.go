package relay

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// read gives a range as the member reads it, and what it should be.
func (m *member) read(offset, length int64) (got, want []byte) {
	m.t.Helper()
	body, err := m.Range(deadline(m.t), offset, length)
	if err != nil {
		m.t.Fatal(err)
	}
	defer body.Close()
	if got, err = io.ReadAll(body); err != nil {
		m.t.Fatal(err)
	}
	return got, m.img.packed[offset : offset+length]
}

// lies sends zeros for frames.
func lies(h hostile) {
	h.frames(func(_ int, r record, p []byte) (record, []byte) { clear(p); return r, p })
}

// TestSuspectComesFromTheFloor: also when the next upstream is a liar too.
func TestSuspectComesFromTheFloor(t *testing.T) {
	t.Parallel()
	img := newImage(12)
	m := newMember(t, img, "victim")
	size := int64(img.m.Frames[0].PackedSize)
	m.SetUpstream(hostilePeer(t, img, lies))
	if got, want := m.read(0, size); bytes.Equal(got, want) {
		t.Fatal("the peer did not lie")
	}
	m.Suspect(0, size)
	second := hostilePeer(t, img, lies)
	second.MachineID = "evil2"
	m.SetUpstream(second)
	if got, want := m.read(0, size); !bytes.Equal(got, want) {
		t.Error("a frame that was suspect came from a peer again")
	}
	if s := m.State(); s.Upstream != "evil2" || s.FailedUpstream != "evil" || s.Failure != FailureGarbage {
		t.Errorf("got state %+v, want evil blamed and evil2 upstream", s)
	}
}

// TestFromTheMiddle: ranges need not begin or end with a frame.
func TestFromTheMiddle(t *testing.T) {
	t.Parallel()
	img := newImage(12)
	server, m := newMember(t, img, "server"), newMember(t, img, "reader")
	writeAll(t, []*member{server})
	m.SetUpstream(server.peer())
	for _, at := range [][2]int64{{100, 50}, {100, 90000}, {30000, 100000}} {
		if got, want := m.read(at[0], at[1]); !bytes.Equal(got, want) {
			t.Errorf("%d bytes from byte %d on are not those of the image", at[1], at[0])
		}
	}
	if s := m.State(); s.FromPeers < 100000 || s.FailedUpstream != "" {
		t.Errorf("got %d bytes from the peer, failure %q", s.FromPeers, s.Failure)
	}
}

// TestTurnedWhileWaiting: who waits for a frame goes elsewhere when he is told.
func TestTurnedWhileWaiting(t *testing.T) {
	t.Parallel()
	img := newImage(12)
	m := newMember(t, img, "reader", func(o *Options) { o.Patience = time.Hour })
	m.SetUpstream(hostilePeer(t, img, func(h hostile) {
		for n := 0; h.r.Context().Err() == nil; n++ {
			h.record(record{kind: kindWait, frame: h.first})
			if n == 2 {
				m.SetUpstream(Peer{})
			}
			pause(h.r, 100*time.Millisecond)
		}
	}))
	if got, want := m.read(0, 1000); !bytes.Equal(got, want) {
		t.Error("other bytes than those of the image")
	}
	if s := m.State(); s.Upstream != "" || s.FailedUpstream != "" || s.FromFloor == 0 {
		t.Errorf("got state %+v, want the floor and nobody blamed", s)
	}
}

// TestPassedOver: frames that the server's own disk had already are gone at once.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	server := newMember(t, img, "server", func(o *Options) {
		// A quick clock, so that what was passed over soon was so long ago.
		start := time.Now()
		o.Now = func() time.Time { return start.Add(time.Since(start) * 20) }
	})
	f := img.m.Frames[30]
	server.read(int64(f.Offset), int64(f.PackedSize))
	server.Put(30, img.packed[f.Offset:][:f.PackedSize])
	m := newMember(t, img, "reader", func(o *Options) { o.Now = server.opts.Now })
	m.SetUpstream(server.peer())
	for server.State().Position == 0 {
		time.Sleep(time.Millisecond)
	}
	if got, want := m.read(0, 1000); !bytes.Equal(got, want) {
		t.Error("other bytes than those of the image")
	}
	if s := m.State(); s.Failure != FailureGone || s.Upstream != "server" {
		t.Errorf("got %q, upstream %q; want gone and the same upstream", s.Failure, s.Upstream)
	}
}

// TestNotToBeReadFrom: addresses that no peer can have are not asked.
func TestNotToBeReadFrom(t *testing.T) {
	t.Parallel()
	m := newMember(t, newImage(6), "reader")
	for _, p := range []Peer{
		{MachineID: "reader", URLs: []string{m.url}},
		{MachineID: "p"},
		{MachineID: "p", URLs: make([]string, maxURLs+1)},
		{MachineID: "a:b", URLs: []string{m.url}},
		{MachineID: "p", URLs: []string{"https://10.0.0.1:4000"}},
		{MachineID: "p", URLs: []string{"file:///etc/passwd"}},
		{MachineID: "p", URLs: []string{"http://user:secret@10.0.0.1:4000"}},
		{MachineID: "p", URLs: []string{"http://10.0.0.1:4000/machine/release?all=1"}},
		{MachineID: "p", URLs: []string{"http://%zz"}},
	} {
		m.SetUpstream(p)
		if s := m.State(); s.Upstream != "" || s.Failure != FailureUnreachable {
			t.Errorf("%v: got upstream %q, failure %q", p, s.Upstream, s.Failure)
		}
	}
	if _, err := m.Range(t.Context(), 0, int64(m.m.PackedSizeBytes)+1); err == nil {
		t.Error("a range beyond the file was taken")
	}
	if _, err := NewNode(m.m, m.digest, m.floor, Options{MachineID: "m", Key: []byte("short")}); err == nil {
		t.Error("a short key was taken")
	}
}
