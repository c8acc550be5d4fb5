package image

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/image/egress"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	frames := st.link(FramesPath(st.img.Digest))
	resp, whole := st.do(t, "GET", frames)
	tag := resp.Header.Get("ETag")
	last := fmt.Sprintf("bytes=%d-", len(whole)-10)
	for name, tc := range map[string]struct {
		method string
		header []string
		status int
		body   []byte
	}{
		"known tag":                 {"GET", []string{"If-None-Match", tag}, 304, nil},
		"known tag, HEAD":           {"HEAD", []string{"If-None-Match", tag}, 304, nil},
		"known tag among others":    {"GET", []string{"If-None-Match", `"x", ` + tag}, 304, nil},
		"other tag":                 {"GET", []string{"If-None-Match", `"x"`}, 200, whole},
		"range of the same":         {"GET", []string{"Range", "bytes=5-9", "If-Range", tag}, 206, whole[5:10]},
		"range of another: whole":   {"GET", []string{"Range", "bytes=5-9", "If-Range", `"x"`}, 200, whole},
		"range of a weak tag":       {"GET", []string{"Range", "bytes=5-9", "If-Range", "W/" + tag}, 200, whole},
		"range, tag demanded":       {"GET", []string{"Range", "bytes=5-9", "If-Match", tag}, 206, whole[5:10]},
		"range, other tag demanded": {"GET", []string{"Range", "bytes=5-9", "If-Match", `"x"`}, 412, nil},
		"to the end":                {"GET", []string{"Range", last}, 206, whole[len(whole)-10:]},
		"the last ten":              {"GET", []string{"Range", "bytes=-10"}, 206, whole[len(whole)-10:]},
		"HEAD of a range":           {"HEAD", []string{"Range", "bytes=5-9"}, 206, nil},
		"behind the end":            {"GET", []string{"Range", fmt.Sprintf("bytes=%d-", len(whole))}, 416, nil},
		"backwards":                 {"GET", []string{"Range", "bytes=9-5"}, 416, nil},
		"not bytes":                 {"GET", []string{"Range", "frames=1-2"}, 416, nil},
	} {
		resp, body := st.do(t, tc.method, frames, tc.header...)
		if resp.StatusCode != tc.status || (tc.body != nil && !bytes.Equal(body, tc.body)) || (tc.body == nil && len(body) > 100) {
			t.Errorf("%s: got %d and %d bytes, want %d and %d", name, resp.StatusCode, len(body), tc.status, len(tc.body))
		}
	}
	resp, _ = st.do(t, "GET", frames, "Range", fmt.Sprintf("bytes=%d-", len(whole)))
	if got, want := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes */%d", len(whole)); got != want {
		t.Errorf("416 says %q, want %q", got, want)
	}
}

// conn counts what reaches the connection in the one form that the network
// poller turns into sendfile: an io.LimitedReader over an *os.File.
type conn struct {
	*net.TCPConn
	files *atomic.Int64
}

func (c conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			c.files.Add(n)
		}
	}
	return n, err
}

type listener struct {
	net.Listener
	files *atomic.Int64
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c.(*net.TCPConn), l.files}, nil
}

func TestFilesAreSentByTheKernel(t *testing.T) {
	t.Parallel()
	for name, gate := range map[string]*egress.Gate{"free": nil, "limited": egress.NewGate(egress.Limits{Site: 1 << 40})} {
		st := newSite(t)
		var files atomic.Int64
		var sent atomic.Int64
		server := httptest.NewUnstartedServer(st.store.Handler(Serving{Signer: st.signer, Access: st.access, Gate: gate,
			Observe: func(s Served) { sent.Add(s.Sendfile) }}))
		server.Listener = listener{server.Listener, &files}
		server.Start()
		st.server.Close()
		st.server = server
		_, whole := st.do(t, "GET", st.link(FramesPath(st.img.Digest)))
		_, part := st.do(t, "GET", st.link(FramesPath(st.img.Digest)), "Range", "bytes=100-1500099")
		server.Close() // waits for the handlers
		// net/http itself copies the first 512 bytes behind a header.
		want := int64(len(whole) + len(part))
		if files.Load() != want-2*512 || sent.Load() != want || len(part) != 1_500_000 {
			t.Errorf("%s: %d bytes were files at the connection, %d counted, want %d", name, files.Load(), sent.Load(), want)
		}
	}
}

// What a link is good for is the order's to say, at each moment.
func TestAccess(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	frames := st.link(FramesPath(st.img.Digest))
	status := func(link string, want int) {
		t.Helper()
		if resp, body := st.do(t, "GET", link, "Range", "bytes=0-9"); resp.StatusCode != want {
			t.Errorf("got %d (%s), want %d", resp.StatusCode, body, want)
		}
	}
	fresh := func() string { // another order, so nothing is remembered of it
		r := m1
		r.OrderID += int64(st.access.questions())
		return st.server.URL + st.signer.Sign(FramesPath(st.img.Digest), r, st.clock.Add(time.Minute))
	}
	for range 20 {
		status(frames, 206)
	}
	if n := st.access.questions(); n != 1 {
		t.Errorf("asked %d times for 20 ranges", n)
	}
	st.access.set(Grant{Refused: "its deploy has ended"}, nil)
	status(fresh(), 403)
	st.access.set(Grant{}, errors.New("database away"))
	resp, _ := st.do(t, "GET", fresh())
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("nobody can tell: got %d, %v", resp.StatusCode, resp.Header)
	}
	st.access.set(Grant{Private: true}, nil)
	status(fresh(), 403) // plain HTTP
}

func (a *access) questions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// Answers are kept for seconds; without new ones who was allowed goes on for a
// while, and who was refused does not.
func TestKeeper(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := &access{}
	k := &keeper{access: a, now: func() time.Time { return now }, answer: map[question]*answer{}}
	away := errors.New("database away")
	for i, tc := range []struct {
		after   time.Duration
		grant   Grant
		err     error
		refused bool
		unknown bool
		asked   int
	}{
		{0, Grant{}, nil, false, false, 1},
		{2 * time.Second, Grant{Refused: "x"}, nil, false, false, 1},
		{2 * time.Second, Grant{Refused: "x"}, nil, true, false, 2},
		{time.Second, Grant{}, nil, true, false, 2},
		{3 * time.Second, Grant{}, nil, false, false, 3},
		{3 * time.Second, Grant{}, away, false, false, 4},
		{9 * time.Minute, Grant{}, away, false, false, 5},
		{2 * time.Minute, Grant{}, away, false, true, 6},
		{time.Second, Grant{Refused: "x"}, nil, true, false, 7},
		{time.Minute, Grant{}, away, false, true, 8},
	} {
		now = now.Add(tc.after)
		a.set(tc.grant, tc.err)
		g, err := k.grant(t.Context(), m1, "d")
		if (g.Refused != "") != tc.refused || (err != nil) != tc.unknown || a.questions() != tc.asked {
			t.Errorf("step %d: %+v, %v after %d questions; want %+v", i, g, err, a.questions(), tc)
		}
	}
	for i := range 3 * grantsKept {
		if _, err := k.grant(t.Context(), Reader{MachineID: "m", OrderID: int64(i)}, "d"); len(k.answer) > grantsKept || err == nil {
			t.Fatalf("%d answers are kept, %v", len(k.answer), err)
		}
	}
}

// A deploy that is cancelled stops reading in the middle of a range.
func TestCancelledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := &flow{ResponseWriter: httptest.NewRecorder(), ctx: t.Context()}
	pieces := 0
	w.still = func(context.Context) error {
		if pieces++; pieces == 3 {
			return errors.New("its deploy has ended")
		}
		return nil
	}
	n, err := w.ReadFrom(&io.LimitedReader{R: zeros{}, N: 10 << 20})
	if n != 2*pieceFree || err == nil {
		t.Errorf("%d bytes went out, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestPrivateImages(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	st.access.set(Grant{Private: true}, nil)
	server := httptest.NewUnstartedServer(st.store.Handler(Serving{Signer: st.signer, Access: st.access,
		Agent: func(c *x509.Certificate) (string, uint64, error) {
			if c.Subject.CommonName == "" {
				return "", 0, errors.New("not ours")
			}
			var boot uint64
			var id string
			_, err := fmt.Sscanf(c.Subject.CommonName, "%s %d", &id, &boot)
			return id, boot, err
		}}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	link := server.URL + st.signer.Sign(FramesPath(st.img.Digest), m1, st.clock.Add(time.Minute))
	for name, tc := range map[string]struct {
		cert string
		want int
		says string
	}{
		"none":          {"", 403, "certificate"},
		"the machine's": {"m1 3", 206, ""},
		"another":       {"m2 3", 403, "another machine"},
		"older boot":    {"m1 2", 403, "another machine or boot"},
		"a stranger's":  {"stranger", 403, "in force"},
	} {
		transport := server.Client().Transport.(*http.Transport).Clone()
		if tc.cert != "" {
			transport.TLSClientConfig.Certificates = []tls.Certificate{selfSigned(t, tc.cert)}
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", link, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes=0-99")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.CloseIdleConnections()
		if resp.StatusCode != tc.want || !strings.Contains(string(body), tc.says) {
			t.Errorf("%s: got %d, %.200q; want %d, %q", name, resp.StatusCode, body, tc.want, tc.says)
		}
	}
}

// Too many answers are turned away, one machine's before all others'.
func TestSlots(t *testing.T) {
	t.Parallel()
	s := newSlots(5, 3)
	var got []bool
	for _, name := range []string{"a", "a", "a", "a", "b", "b", "b"} {
		got = append(got, s.take(name))
	}
	if want := []bool{true, true, true, false, true, true, false}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.free("a")
	if !s.take("b") || s.take("b") {
		t.Error("what is free again is not given once")
	}
	for range 3 {
		s.free("b")
	}
	s.free("a")
	s.free("a")
	if s.all != 0 || len(s.of) != 0 {
		t.Errorf("%d taken, %v", s.all, s.of)
	}
}

// A machine with too many answers under way is told to come again.
func TestBusy(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	h := st.store.Handler(Serving{Signer: st.signer, Access: st.access})
	ask := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", st.link(FramesPath(st.img.Digest)), nil))
		return rec
	}
	for range answersOfOne {
		h.slots.take("m1/")
	}
	if rec := ask(); rec.Code != 503 || rec.Header().Get("Retry-After") != busyAgain {
		t.Errorf("got %d, %v", rec.Code, rec.Header())
	}
	h.slots.free("m1/")
	if rec := ask(); rec.Code != 200 || h.Open() != 0 || h.slots.of["m1/"] != answersOfOne-1 {
		t.Errorf("afterwards: %d, %d open, %v", rec.Code, h.Open(), h.slots.of)
	}
}

// A peer that takes nothing is cut off, and its place is free again.
func TestStalledPeerIsCut(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	ended := make(chan Served, 1)
	h := st.store.Handler(Serving{Signer: st.signer, Access: st.access, Observe: func(s Served) { ended <- s }})
	h.stall = 50 * time.Millisecond
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	target := st.signer.Sign(FramesPath(st.img.Digest), m1, st.clock.Add(time.Minute))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target); err != nil {
		t.Fatal(err)
	}
	if s := <-ended; s.Bytes >= int64(st.img.Manifest.PackedSizeBytes) {
		t.Errorf("%d of %d bytes went out to a peer that took none", s.Bytes, st.img.Manifest.PackedSizeBytes)
	}
}

// With a limit for the site two owners get half of it each, over real HTTP.
func TestOwnersShareTheRate(t *testing.T) {
	t.Parallel()
	st := newSite(t)
	byOwner := ownerAccess{}
	server := httptest.NewServer(st.store.Handler(Serving{Signer: st.signer, Access: byOwner, Gate: egress.NewGate(egress.Limits{Site: 8 << 20})}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var got [2]atomic.Int64
	var wg sync.WaitGroup
	for i, machine := range []string{"a1", "b1", "b2", "b3", "b4"} {
		wg.Go(func() {
			link := server.URL + st.signer.Sign(FramesPath(st.img.Digest), Reader{MachineID: machine}, st.clock.Add(time.Minute))
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, "GET", link, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := server.Client().Do(req)
				if err != nil {
					return // the time is over
				}
				n, _ := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				got[min(i, 1)].Add(n)
			}
		})
	}
	wg.Wait()
	a, b := float64(got[0].Load()), float64(got[1].Load())
	if ratio := a / (a + b); ratio < 0.3 || ratio > 0.7 || a+b > 2*8<<20 {
		t.Errorf("one machine of a got %.0f bytes, four of b %.0f", a, b)
	}
}

type ownerAccess struct{}

func (ownerAccess) ImageGrant(_ context.Context, r Reader, _ string) (Grant, error) {
	return Grant{Owner: r.MachineID[:1]}, nil
}
