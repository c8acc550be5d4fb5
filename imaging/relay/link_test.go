package relay

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// link is what a member dials through: it can be cut, or go silent without a
// word, as when somebody pulls a plug, or be slow.
type link struct {
	mu    sync.Mutex
	dead  chan struct{} // closed: nothing arrives any more
	rate  int           // bytes a second; 0: as it comes
	conns []net.Conn
	shut  bool // there is nobody to connect to
}

func newLink() *link { return &link{dead: make(chan struct{})} }

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	select {
	case <-l.dead:
		<-ctx.Done()
		return nil, ctx.Err()
	default:
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		c.Close()
		return nil, syscall.ECONNREFUSED
	}
	l.conns = append(l.conns, c)
	return &linked{Conn: c, link: l, gone: make(chan struct{})}, nil
}

// cut resets all connections, and lets no new ones be made.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	l.conns, l.shut = nil, true
}

type linked struct {
	net.Conn
	link *link
	once sync.Once
	gone chan struct{}
}

func (c *linked) Read(p []byte) (int, error) {
	c.link.mu.Lock()
	rate := c.link.rate
	c.link.mu.Unlock()
	if rate > 0 {
		p = p[:min(len(p), 4<<10)]
	}
	n, err := c.Conn.Read(p)
	if rate > 0 && n > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate)) // this is the link
	}
	select {
	case <-c.link.dead:
		<-c.gone
		return 0, net.ErrClosed
	default:
	}
	return n, err
}

func (c *linked) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// TestUpstreamFails: the second of four machines fails in the middle, in several
// ways. Everybody gets the image, the third says who failed, and only it went to
// the floor for what was missing.
func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	img := newImage(200)
	for name, test := range map[string]struct {
		fail func(l *link, second *member)
		want []Failure
	}{
		"cut":     {func(l *link, _ *member) { l.cut() }, []Failure{FailureUnreachable}},
		"silence": {func(l *link, _ *member) { close(l.dead) }, []Failure{FailureStalled}},
		"leaving": {func(_ *link, m *member) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := m.Close(ctx); err != nil {
				m.t.Error(err)
			}
			// Who asks after that finds nobody.
		}, []Failure{FailureLeaving, FailureUnreachable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink()
			var members []*member
			for i, id := range []string{"first", "second", "third", "fourth"} {
				members = append(members, newMember(t, img, id, func(o *Options) {
					if i == 2 {
						o.Dial = l.dial
					}
				}))
				if i > 0 {
					members[i].SetUpstream(members[i-1].peer())
				}
			}
			// The chain is held until the failure has happened, so that it is in
			// the middle.
			failed := make(chan struct{})
			var once, held sync.Once
			members[2].onFrame = func(i int) {
				if i >= 60 {
					once.Do(func() { test.fail(l, members[1]); close(failed) })
				}
			}
			members[0].floor.gate = func(ctx context.Context, offset int64) error {
				if offset > int64(img.m.Frames[100].Offset) {
					held.Do(func() { <-failed })
				}
				return ctx.Err()
			}
			writeAll(t, members)
			s := members[2].State()
			if s.FailedUpstream != "second" || !slices.Contains(test.want, s.Failure) {
				t.Errorf("got %q of %q, want %q of second", s.Failure, s.FailedUpstream, test.want)
			}
			if s.FromPeers < img.m.FetchBytes()/4 || s.FromFloor < img.m.FetchBytes()/4 {
				t.Errorf("got %d bytes from peers and %d from the floor, want a good part of %d from both", s.FromPeers, s.FromFloor, img.m.FetchBytes())
			}
			if got := members[3].floor.bytes.Load(); got != 0 {
				t.Errorf("the machine behind it took %d bytes from the floor, want none: %+v", got, members[3].State())
			}
		})
	}
}

// TestReformed: upstreams change all the time, to any machine that is ahead, to
// the floor, and to one that is not there.
func TestReformed(t *testing.T) {
	t.Parallel()
	img := newImage(300)
	members := chain(t, img, 4)
	choices := []Peer{{}, {MachineID: "nobody", URLs: []string{"http://127.0.0.1:1"}}}
	for i, m := range members {
		m.onFrame = func(frame int) {
			if frame%10 == 0 && i > 0 {
				all := append([]Peer{members[frame/10%i].peer()}, choices...)
				m.SetUpstream(all[frame/10%len(all)])
			}
		}
	}
	writeAll(t, members)
}
