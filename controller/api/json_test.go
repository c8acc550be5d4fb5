package api_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/proto/operator"
)

// counted is an endless JSON string, and how much of it was taken.
type counted struct {
	begun bool
	n     int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.n > 256<<20 {
		return 0, io.EOF
	}
	n := 0
	if !c.begun {
		c.begun = true
		n = copy(p, `{"header":{"name":"`)
	}
	for i := n; i < len(p); i++ {
		p[i] = 'A'
	}
	c.n += int64(len(p))
	return len(p), nil
}

// TestImportOfEndlessJSON: nobody may fill the controller's memory by a JSON
// value without end, least of all somebody without a token.
func TestImportOfEndlessJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, token := range []string{"", s.token} {
		body := &counted{}
		r, err := http.NewRequestWithContext(s.soon(), "POST", s.base+"/v1/images:import", body)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if got, err := s.client.Do(r); err == nil {
			got.Body.Close()
			if got.StatusCode < 400 || got.StatusCode >= 500 {
				t.Errorf("an endless value: status %d", got.StatusCode)
			}
		}
		if body.n > 64<<20 {
			t.Errorf("%d MiB of one JSON value were taken", body.n>>20)
		}
	}
}

// TestRESTWords: what is no text is the caller's fault, in any place of a URL.
func TestRESTWords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, path := range []string{"/v1/machines/%ff", "/v1/machines?filter=%ff", "/v1/machines?page_token=%ff", "/v1/events:watch?resume_token=%ff", "/v1/operations/%c3%28:cancel"} {
		if code, answer := s.rest("GET", path, s.token, nil); code < 400 || code >= 500 {
			t.Errorf("GET %s: %d %s", path, code, answer)
		}
	}
}

// TestPageTokenOfLongFilter: a token that a list gave is one that it takes.
func TestPageTokenOfLongFilter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 3 {
		s.add(n)
	}
	filter := strings.TrimSpace(strings.Repeat("approved=true AND ", 13) + "hostname=m*" + strings.Repeat(" ", 100))
	for _, f := range []string{filter, filter + " AND reason=" + strings.Repeat("*", 500)} {
		first, err := s.machines.MachineList(t.Context(), &operator.MachineListRequest{Filter: f, PageSize: 1})
		if err != nil || first.GetNextPageToken() == "" {
			t.Fatalf("%v, %v", first, err)
		}
		second, err := s.machines.MachineList(t.Context(), &operator.MachineListRequest{Filter: f, PageSize: 1, PageToken: first.GetNextPageToken()})
		if err != nil || len(second.GetMachines()) != 1 {
			t.Errorf("second page of a filter of %d bytes: %v, %v", len(f), second, err)
		}
		_, err = s.machines.MachineList(t.Context(), &operator.MachineListRequest{PageToken: first.GetNextPageToken()})
		wantRefusal(t, "a token of another list", err, codes.InvalidArgument, "page token")
	}
	code, answer := s.rest("GET", "/v1/machines?pageSize=1&filter="+url.QueryEscape("hostname=m*"), s.token, nil)
	if code != 200 || !strings.Contains(answer, "nextPageToken") {
		t.Errorf("over REST: %d %s", code, answer)
	}
}

// TestTokenBeforeBody: who has no token is refused before the body is read, by
// gRPC and by REST, with the same words as ever.
func TestTokenBeforeBody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, tc := range []struct{ path, kind string }{
		{"/v1/machines", "application/json"},
		{"/v1/machines/x:deploy", "application/json"},
		{"/ingot.operator.v1.MachineService/MachineAdd", "application/grpc"},
	} {
		body, more := io.Pipe() // of which never a byte comes
		defer more.Close()
		r, err := http.NewRequestWithContext(s.soon(), "POST", s.base+tc.path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tc.kind)
		r.Header.Set("Authorization", "Bearer ingot_wrong")
		got, err := s.client.Do(r)
		if err != nil {
			t.Errorf("%s: %v", tc.path, err)
			continue
		}
		got.Body.Close()
		if got.StatusCode != 401 && got.Header.Get("Grpc-Status") != "16" {
			t.Errorf("%s: %s, gRPC %s", tc.path, got.Status, got.Header.Get("Grpc-Status"))
		}
	}
	_, err := operator.NewMachineServiceClient(s.dial("")).MachineList(t.Context(), &operator.MachineListRequest{})
	wantRefusal(t, "no token", err, codes.Unauthenticated, "Authorization: Bearer TOKEN (ingotd printed")
	_, err = operator.NewMachineServiceClient(s.dial("ingot_wrong")).MachineList(t.Context(), &operator.MachineListRequest{})
	wantRefusal(t, "a wrong token", err, codes.Unauthenticated, "the token is not known")
	watch, err := operator.NewEventServiceClient(s.dial("")).EventWatch(t.Context(), &operator.EventWatchRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	wantRefusal(t, "a watch without a token", err, codes.Unauthenticated, "no token")
}
