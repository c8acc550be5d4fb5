package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var file = func() []byte {
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}()

// serve runs handler; clients made by source do not outlive the test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func source(t *testing.T, url string, opts HTTPOptions) *HTTP {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	opts.Client = &http.Client{Transport: transport}
	h, err := NewHTTP(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func readRange(t *testing.T, src Source, offset, length int64) ([]byte, error) {
	t.Helper()
	body, err := src.Range(t.Context(), offset, length)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func content(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
}

func TestHTTPRanges(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var matches []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		matches = append(matches, r.Header.Get("If-Match"))
		mu.Unlock()
		content(w, r)
	})
	src := source(t, s.URL, HTTPOptions{})
	for _, tc := range []struct{ offset, length int64 }{{0, 1}, {10, 5000}, {99_999, 1}, {0, 100_000}} {
		got, err := readRange(t, src, tc.offset, tc.length)
		if err != nil || !bytes.Equal(got, file[tc.offset:tc.offset+tc.length]) {
			t.Errorf("%+v: %d bytes, %v", tc, len(got), err)
		}
	}
	if got := fmt.Sprintf("%q", matches); got != `["" "\"v1\"" "\"v1\"" "\"v1\""]` {
		t.Errorf("If-Match was %s", got)
	}
	for _, tc := range []struct{ offset, length int64 }{{0, 0}, {-1, 5}, {5, -1}} {
		if _, err := readRange(t, src, tc.offset, tc.length); !Permanent(err) {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
}

func TestHTTPAnswersAreJudged(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "no", code)
		}
	}
	for name, tc := range map[string]struct {
		handler   http.HandlerFunc
		permanent bool
		want      error // nil: any
		status    int
	}{
		"400":        {status(400), true, nil, 400},
		"401":        {status(401), true, nil, 401},
		"403":        {status(403), true, nil, 403},
		"404":        {status(404), true, nil, 404},
		"408":        {status(408), false, nil, 408},
		"410":        {status(410), true, nil, 410},
		"412":        {status(412), true, ErrChanged, 412},
		"416":        {status(416), true, nil, 416},
		"429":        {status(429), false, nil, 429},
		"500":        {status(500), false, nil, 500},
		"502":        {status(502), false, nil, 502},
		"503":        {status(503), false, nil, 503},
		"whole file": {func(w http.ResponseWriter, r *http.Request) { w.Write(file) }, true, ErrNoRanges, 200},
		"other range": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99/100000")
			w.WriteHeader(206)
			w.Write(file[:100])
		}, true, ErrShort, 206},
		"body too short": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 1000-1999/100000")
			w.WriteHeader(206)
			w.Write(file[1000:1500])
		}, false, ErrShort, 0},
		"connection breaks": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 1000-1999/100000")
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(206)
			w.Write(file[1000:1500])
			panic(http.ErrAbortHandler)
		}, false, nil, 0},
		"redirect without end": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", 302) }, false, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.handler)
			_, err := readRange(t, source(t, s.URL+"/images/x?signature=secret", HTTPOptions{}), 1000, 1000)
			var e *Error
			if !errors.As(err, &e) || Permanent(err) != tc.permanent || e.Status != tc.status || (tc.want != nil && !errors.Is(err, tc.want)) {
				t.Fatalf("got %v (%+v), want permanent %t, %v", err, e, tc.permanent, tc.want)
			}
			if tc.status == 503 && e.RetryAfter != 7*time.Second {
				t.Errorf("got Retry-After %s", e.RetryAfter)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the signature is in the error: %v", err)
			}
		})
	}
}

func TestUnreachableServerIsTemporary(t *testing.T) {
	t.Parallel()
	s := serve(t, content)
	src := source(t, s.URL+"/x?signature=secret", HTTPOptions{})
	s.Close()
	_, err := readRange(t, src, 0, 10)
	if err == nil || Permanent(err) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestUntrustedCertificateIsPermanent(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(content))
	defer s.Close()
	s.Config.ErrorLog = nil
	if _, err := readRange(t, source(t, s.URL, HTTPOptions{}), 0, 10); err == nil || !Permanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestFileThatChanges(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Match") // a server that does not look at it
		w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, n.Add(1)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	})
	src := source(t, s.URL, HTTPOptions{})
	if _, err := readRange(t, src, 0, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := readRange(t, src, 0, 10); !errors.Is(err, ErrChanged) || !Permanent(err) {
		t.Errorf("got %v, want %v", err, ErrChanged)
	}
}

func TestServerThatStalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Header().Set("Content-Range", "bytes 0-99/100000")
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(206)
			w.Write(file[:10])
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	quick := HTTPOptions{HeaderTimeout: 50 * time.Millisecond, StallTimeout: 50 * time.Millisecond}
	for _, path := range []string{"/header", "/body"} {
		got, err := readRange(t, source(t, s.URL+path, quick), 0, 100)
		if !errors.Is(err, ErrStalled) || Permanent(err) || (path == "/body" && len(got) != 10) {
			t.Errorf("%s: got %d bytes, %v; want %v", path, len(got), err, ErrStalled)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	body, err := source(t, s.URL+"/body", HTTPOptions{}).Range(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	cancel()
	if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestRenewedURL(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("signature") != "good" {
			http.Error(w, "expired", http.StatusForbidden)
			return
		}
		content(w, r)
	})
	calls := 0
	answer := s.URL + "?signature=good"
	src := source(t, s.URL+"?signature=old", HTTPOptions{Renew: func(context.Context) (string, error) {
		calls++
		return answer, nil
	}})
	for range 2 {
		if got, err := readRange(t, src, 5, 5); err != nil || !bytes.Equal(got, file[5:10]) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if calls != 1 {
		t.Errorf("renewed %d times, want once", calls)
	}
	answer = s.URL + "?signature=old"
	src = source(t, answer, HTTPOptions{Renew: func(context.Context) (string, error) { return answer, nil }})
	if _, err := readRange(t, src, 5, 5); !Permanent(err) {
		t.Errorf("still refused: got %v", err)
	}
	denied := errors.New("the deploy was cancelled")
	src = source(t, answer, HTTPOptions{Renew: func(context.Context) (string, error) { return "", denied }})
	if _, err := readRange(t, src, 5, 5); !Permanent(err) || !errors.Is(err, denied) {
		t.Errorf("no fresh URL: got %v", err)
	}
}

func TestFileSource(t *testing.T) {
	t.Parallel()
	src := NewFile(bytes.NewReader(file), int64(len(file)), "frames")
	if got, err := readRange(t, src, 99_000, 1000); err != nil || !bytes.Equal(got, file[99_000:]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	for _, tc := range []struct{ offset, length int64 }{{99_001, 1000}, {-1, 1}, {0, 0}, {1 << 62, 1 << 62}} {
		if _, err := readRange(t, src, tc.offset, tc.length); !Permanent(err) {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
	short := NewFile(bytes.NewReader(file[:500]), int64(len(file)), "frames")
	if _, err := readRange(t, short, 0, 1000); !errors.Is(err, ErrShort) {
		t.Errorf("file that is shorter than said: got %v", err)
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	m := &manifest.Manifest{Version: 1, Kind: manifest.KindDisk, Architecture: "amd64", SectorSize: 512, SizeBytes: 512,
		FrameSizeBytes: manifest.DefaultFrameSize, Frames: []manifest.Frame{{Zero: true, Size: 512}}}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := manifest.DigestOf(data)
	var asked atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow" && asked.Add(1) < 3:
			http.Error(w, "busy", 503)
		case r.URL.Path == "/wrong":
			w.Write(append(bytes.Clone(data), ' '))
		case r.URL.Path == "/endless":
			for {
				if _, err := w.Write(file); err != nil {
					return
				}
			}
		case r.URL.Path == "/gone":
			http.Error(w, "no", 404)
		default:
			w.Write(data)
		}
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	opts := Options{HTTP: HTTPOptions{Client: &http.Client{Transport: transport}}, Retry: RetryOptions{FirstWait: time.Millisecond}}
	for name, tc := range map[string]struct {
		urls []string
		ok   bool
	}{
		"good":              {[]string{s.URL}, true},
		"second URL":        {[]string{s.URL + "/gone", s.URL + "/wrong", s.URL}, true},
		"at the third time": {[]string{s.URL + "/slow"}, true},
		"gone":              {[]string{s.URL + "/gone"}, false},
		"wrong bytes":       {[]string{s.URL + "/wrong"}, false},
		"endless":           {[]string{s.URL + "/endless"}, false},
		"no URL":            {nil, false},
		"bad URL":           {[]string{"ftp://x"}, false},
	} {
		got, err := Manifest(t.Context(), tc.urls, digest, opts)
		if (err == nil) != tc.ok || (tc.ok && got.SizeBytes != 512) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, urls := range [][]string{nil, {"x"}, {"file:///etc/passwd"}, {"http://"}, {"http://a/b", "://"}} {
		if _, err := Open(urls, Options{}); err == nil {
			t.Errorf("%q: got no error", urls)
		}
	}
}

// An answer that is refused is not waited for either.
func TestRefusedAnswerThatNeverEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusServiceUnavailable)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	src := source(t, s.URL, HTTPOptions{HeaderTimeout: 200 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := src.Range(ctx, 0, 10)
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || ctx.Err() != nil {
		t.Errorf("got %v, and the context ended with %v", err, ctx.Err())
	}
}
