package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/proto/operator"
)

// fetched imports from a URL to the end.
func (s *site) fetched(ctx context.Context, r *operator.ImageImportURLRequest) (img *operator.Image, phases string, err error) {
	s.t.Helper()
	stream, err := s.images.ImageImportURL(ctx, r)
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return img, phases, nil
		}
		if err != nil {
			return nil, phases, err
		}
		if !strings.HasSuffix(phases, got.GetPhase()+" ") {
			phases += got.GetPhase() + " "
		}
		img = got.GetImage()
	}
}

func TestImportURL(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	sum := sha256.Sum256(disk)
	secret := secretOf(t)
	signature, err := secret.Sign(disk, "disk")
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/disk.raw":
			w.Write(disk)
		case "/disk.raw.minisig":
			w.Write(signature)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	request := func(change func(*operator.ImageImportURLRequest)) *operator.ImageImportURLRequest {
		r := &operator.ImageImportURLRequest{Url: web.URL + "/disk.raw", Header: &operator.ImageHeader{Name: "debian", Architecture: "amd64", Format: "raw"}}
		change(r)
		return r
	}
	img, phases, err := s.fetched(s.soon(), request(func(r *operator.ImageImportURLRequest) {
		r.MinisignKey, r.Header.SourceSha256 = secret.Public().String(), hex.EncodeToString(sum[:])
	}))
	if err != nil || img.GetSizeBytes() != uint64(len(disk)) || !strings.HasPrefix(phases, "download ") || !strings.HasSuffix(phases, "done ") {
		t.Errorf("got %v after %s, %v", img, phases, err)
	}
	for what, c := range map[string]struct {
		change func(*operator.ImageImportURLRequest)
		want   codes.Code
	}{
		"another hash":      {func(r *operator.ImageImportURLRequest) { r.Header.SourceSha256 = strings.Repeat("0", 64) }, codes.FailedPrecondition},
		"another key":       {func(r *operator.ImageImportURLRequest) { r.MinisignKey = secretOf(t).Public().String() }, codes.FailedPrecondition},
		"no such file":      {func(r *operator.ImageImportURLRequest) { r.Url = web.URL + "/none" }, codes.FailedPrecondition},
		"a file":            {func(r *operator.ImageImportURLRequest) { r.Url = "file:///etc/passwd" }, codes.InvalidArgument},
		"link-local":        {func(r *operator.ImageImportURLRequest) { r.Url = "http://169.254.169.254/x" }, codes.InvalidArgument},
		"nowhere":           {func(r *operator.ImageImportURLRequest) { r.Url = "" }, codes.InvalidArgument},
		"a long URL":        {func(r *operator.ImageImportURLRequest) { r.Url += strings.Repeat("x", 3000) }, codes.InvalidArgument},
		"no architecture":   {func(r *operator.ImageImportURLRequest) { r.Header.Architecture = "" }, codes.InvalidArgument},
		"format not stated": {func(r *operator.ImageImportURLRequest) { r.Header.Format = "" }, codes.InvalidArgument},
		"no header":         {func(r *operator.ImageImportURLRequest) { r.Header = nil }, codes.InvalidArgument},
	} {
		_, _, err := s.fetched(s.soon(), request(c.change))
		wantCode(t, what, err, c.want)
	}
	_, _, err = s.fetched(s.soon(), request(func(r *operator.ImageImportURLRequest) { r.Url = "http://127.0.0.1:1/disk" }))
	wantRefusal(t, "a source that does not answer", err, codes.Unavailable, "the image was not taken: ", "127.0.0.1:1", "refused")
	if code, text := s.rest("POST", "/v1/images:import-url", s.token, map[string]any{
		"url": web.URL + "/disk.raw", "header": map[string]any{"name": "again", "architecture": "amd64", "format": "raw"},
	}); code != 200 || !strings.Contains(text, `"phase":"done"`) || !strings.Contains(text, "plain http") {
		t.Errorf("REST: %d %s", code, text)
	}
}

// TestImportURLEndsWithItsCaller: the source is let go at once, and nothing is in
// service.
func TestImportURLEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1<<20))
		w.(http.Flusher).Flush()
		close(begun)
		<-r.Context().Done()
		close(ended)
	}))
	t.Cleanup(web.Close)
	ctx, cancel := context.WithCancel(s.soon())
	go func() { <-begun; cancel() }()
	_, _, err := s.fetched(ctx, &operator.ImageImportURLRequest{Url: web.URL, Header: &operator.ImageHeader{Name: "debian", Architecture: "amd64", Format: "raw"}})
	wantCode(t, "cancelled", err, codes.Canceled)
	<-ended
	if list, err := s.images.ImageList(t.Context(), &operator.ImageListRequest{}); err != nil || len(list.GetImages()) != 0 {
		t.Errorf("got %v, %v, want nothing", list, err)
	}
}
