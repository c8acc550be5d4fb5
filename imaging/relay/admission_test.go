package relay

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestWhoMayRead: a stranger gets the same answer whatever he asks for.
func TestWhoMayRead(t *testing.T) {
	t.Parallel()
	img := newImage(12)
	m := newMember(t, img, "server")
	m.Finish() // so that members are not kept waiting
	now := time.Now()
	token := func(key []byte, image string, server, reader string, expiry time.Time) string {
		return scheme + reader + ":" + strconv.FormatInt(expiry.Unix(), 10) + ":" +
			mac(key, digestOf(image), server, reader, expiry.Unix())
	}
	own, soon := img.digest.Hex(), now.Add(time.Minute)
	other := strings.Repeat("0", 64)
	path := pathOf(own) + "?first=0&last=1"
	good := token(testKey, own, "server", "reader", soon)
	for name, test := range map[string]struct {
		method, target, token string
		want                  int
	}{
		"a member":              {"GET", path, good, 200},
		"frames beyond":         {"GET", pathOf(own) + "?first=0&last=12", good, 400},
		"no token":              {"GET", path, "", 403},
		"another key":           {"GET", path, token([]byte("sixteen other bytes"), own, "server", "reader", soon), 403},
		"another image's path":  {"GET", pathOf(other) + "?first=0&last=1", good, 403},
		"another image":         {"GET", pathOf(other) + "?first=0&last=1", token(testKey, other, "server", "reader", soon), 403},
		"another image's token": {"GET", path, token(testKey, other, "server", "reader", soon), 403},
		"another server's":      {"GET", path, token(testKey, own, "other", "reader", soon), 403},
		"another reader's":      {"GET", path, strings.Replace(good, "reader", "reader2", 1), 403},
		"expired":               {"GET", path, token(testKey, own, "server", "reader", now.Add(-time.Second)), 403},
		"for too long":          {"GET", path, token(testKey, own, "server", "reader", now.Add(time.Hour)), 403},
		"cut":                   {"GET", path, good[:len(good)-1], 403},
		"post":                  {"POST", path, good, 403},
		"head":                  {"HEAD", path, good, 403},
		"root":                  {"GET", "/", good, 403},
		"no query":              {"GET", pathOf(own), good, 403},
		"backwards":             {"GET", pathOf(own) + "?first=2&last=1", good, 403},
		"another order":         {"GET", pathOf(own) + "?last=1&first=0", good, 403},
		"a sign":                {"GET", pathOf(own) + "?first=0&last=%2B1", good, 403},
		"up and down":           {"GET", "/relay/../relay/" + own + "/frames?first=0&last=1", good, 403},
		"a long path":           {"GET", "/" + strings.Repeat("x", 1000), good, 403},
	} {
		req, err := http.NewRequest(test.method, m.url+test.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.token != "" {
			req.Header.Set("Authorization", test.token)
		}
		got := httptest.NewRecorder()
		m.Handler().ServeHTTP(got, req)
		if got.Code != test.want {
			t.Errorf("%s: got %d, want %d", name, got.Code, test.want)
		}
		if body := got.Body.String(); test.want == 403 && (body != "forbidden\n" || len(got.Result().Header) != 3) {
			t.Errorf("%s: got %q with %v: it tells more than it should", name, body, got.Result().Header)
		}
	}
}

// TestLimits: no more than so many requests of one machine, none of which may
// hold back what others get.
func TestLimits(t *testing.T) {
	t.Parallel()
	img := newImage(12)
	m := newMember(t, img, "server")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ask := func(reader string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+pathOf(img.digest.Hex())+"?first=0&last=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		expiry := time.Now().Add(time.Minute).Unix()
		req.Header.Set("Authorization", scheme+reader+":"+strconv.FormatInt(expiry, 10)+":"+mac(testKey, img.digest, "server", reader, expiry))
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	var open []*http.Response
	for range maxOfPeer {
		open = append(open, ask("greedy")) // each waits for a frame
	}
	if got := ask("greedy").StatusCode; got != http.StatusTooManyRequests {
		t.Errorf("one more of the same machine: got %d, want %d", got, http.StatusTooManyRequests)
	}
	if got := ask("modest").StatusCode; got != http.StatusOK {
		t.Errorf("another machine: got %d, want %d", got, http.StatusOK)
	}
	f := img.m.Frames[0]
	m.Put(0, img.packed[f.Offset:][:f.PackedSize])
	for _, resp := range open {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		if want := string(img.packed[f.Offset:][:f.PackedSize]); !strings.HasSuffix(string(body), want) {
			t.Errorf("got %d bytes that do not end in the frame", len(body))
		}
	}
	if s := m.State(); s.ToPeers < uint64(f.PackedSize)*maxOfPeer {
		t.Errorf("got %d bytes given to peers, want %d", s.ToPeers, uint64(f.PackedSize)*maxOfPeer)
	}
}

func TestServeRate(t *testing.T) {
	t.Parallel()
	img := newImage(12) // about 400 kB
	first := newMember(t, img, "first", func(o *Options) { o.ServeRate = 500e3 })
	second := newMember(t, img, "second", func(o *Options) { o.Stall = 5 * time.Second })
	second.SetUpstream(first.peer())
	start := time.Now()
	writeAll(t, []*member{first, second})
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("%d bytes at 500,000 a second took only %v", img.m.FetchBytes(), took)
	}
	if s := second.State(); s.FailedUpstream != "" {
		t.Errorf("a slow peer was left: %v", s.Failure)
	}
}
