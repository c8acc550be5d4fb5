package relay

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestRing(t *testing.T) {
	t.Parallel()
	const size = 100000
	r, err := newRing(size)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	frames := make([][]byte, 500)
	for i := range frames {
		frames[i] = make([]byte, 1+rng.IntN(30000))
		for k := range frames[i] {
			frames[i][k] = byte(rng.Uint32())
		}
	}
	buf := make([]byte, 7000)
	for i, frame := range frames {
		r.put(i, frame)
		r.put(i, frame) // again: nothing
		room := size
		for k := i; k >= 0; k-- {
			room -= len(frames[k])
			if got, want := r.has(k), room >= 0; got != want {
				t.Fatalf("after frame %d: frame %d there: got %v, want %v", i, k, got, want)
			}
			var got []byte
			for n := r.read(k, 0, buf); n > 0; n = r.read(k, len(got), buf) {
				got = append(got, buf[:n]...)
			}
			if room >= 0 && !bytes.Equal(got, frames[k]) {
				t.Fatalf("after frame %d: frame %d has other bytes", i, k)
			}
			if room < 0 {
				break
			}
		}
	}
	if len(r.begins) != len(r.order) || len(r.order) > 100 || len(r.memory) != size {
		t.Errorf("got %d frames in an order of %d and %d bytes", len(r.begins), len(r.order), len(r.memory))
	}
	r.put(1000, make([]byte, size+1))
	if r.has(1000) || !r.has(499) {
		t.Error("a frame larger than the ring was taken, or cost another one its place")
	}
	if err := r.release(); err != nil {
		t.Fatal(err)
	}
	r.put(1001, frames[0])
	if n := r.read(499, 0, buf); n != 0 || r.has(1001) {
		t.Error("a released ring holds frames")
	}
}

// TestRingInUse: writer, readers and release at the same time.
func TestRingInUse(t *testing.T) {
	t.Parallel()
	r, err := newRing(10000)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			buf := make([]byte, 3000)
			for i := range 3000 {
				if n := r.read(i, 0, buf); n > 0 && (buf[0] != byte(i) || buf[n-1] != byte(i)) {
					t.Errorf("frame %d: got bytes %d and %d", i, buf[0], buf[n-1])
				}
			}
		})
	}
	wait.Go(func() {
		for i := range 3000 {
			r.put(i, bytes.Repeat([]byte{byte(i)}, 1+i%3000))
		}
	})
	wait.Wait()
	if err := r.release(); err != nil {
		t.Fatal(err)
	}
}

// TestEvicted: a machine that comes when the ring of another has moved on takes
// what it lacks from the floor, and the rest from the ring.
func TestEvicted(t *testing.T) {
	t.Parallel()
	img := newImage(120)
	first := newMember(t, img, "first", func(o *Options) { o.RingBytes = 1500000 })
	writeAll(t, []*member{first})
	second := newMember(t, img, "second")
	second.SetUpstream(first.peer())
	writeAll(t, []*member{second})
	s := second.State()
	if s.Failure != FailureGone || s.FailedUpstream != "first" {
		t.Errorf("got %q of %q, want gone of first", s.Failure, s.FailedUpstream)
	}
	if s.FromPeers < 1000000 || s.FromPeers > 1500000 {
		t.Errorf("got %d bytes from a ring of 1500000", s.FromPeers)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	m := newMeter(func() time.Time { return now })
	step := func(d time.Duration, bytes int64) {
		now = now.Add(d)
		m.count(0, 0, bytes)
	}
	m.count(2, 0, 0)
	for range 10 { // 10 MB/s, readers busy
		step(200*time.Millisecond, 2e6)
	}
	if rate, best, hungry := m.read(); rate < 8e6 || rate > 13e6 || best < 9e6 || hungry {
		t.Errorf("got %.0f B/s, best %.0f, hungry %v; want about 1e7 and not hungry", rate, best, hungry)
	}
	m.count(0, 2, 0)
	for range 20 { // 1 MB/s, readers wait for it
		step(200*time.Millisecond, 2e5)
	}
	if rate, best, hungry := m.read(); rate < 8e5 || rate > 13e5 || best < 9e6 || !hungry {
		t.Errorf("got %.0f B/s, best %.0f, hungry %v; want about 1e6, 1e7 and hungry", rate, best, hungry)
	}
	m.count(-2, -2, 0)
	step(3*time.Second, 0)
	step(time.Second, 0)
	if rate, _, hungry := m.read(); rate != 0 || hungry {
		t.Errorf("without readers: got %.0f B/s, hungry %v; want 0 and not hungry", rate, hungry)
	}
}
