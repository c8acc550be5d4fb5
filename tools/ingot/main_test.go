package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/proto/operator"
)

// controller answers as the real one does where it is known to be difficult:
// lists of many pages, watches that break off, and text that a machine made up.
type controller struct {
	operator.UnimplementedMachineServiceServer
	operator.UnimplementedOperationServiceServer
	operator.UnimplementedImageServiceServer
	operator.UnimplementedEventServiceServer
	operator.UnimplementedLeaseServiceServer
	operator.UnimplementedTokenServiceServer

	mu      sync.Mutex
	watches int
	resumed []string
	vouched []string
}

const pageCount = 3

// next is the page after a token, and "" after the last.
func next(token string) (page int, after string) {
	fmt.Sscan(token, &page)
	if page < pageCount-1 {
		after = fmt.Sprint(page + 1)
	}
	return page, after
}

func (c *controller) MachineGet(_ context.Context, r *operator.MachineGetRequest) (*operator.Machine, error) {
	if r.GetMachine() == "dirty" {
		return dirtyMachine(), nil
	}
	return &operator.Machine{Id: "k3f9", Vendor: "Evil\x1b[2J", Warnings: []*operator.Warning{{Code: "w", Text: "a\r\nb"}}}, nil
}

func (c *controller) MachineDelete(context.Context, *operator.MachineDeleteRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (c *controller) ImageDelete(context.Context, *operator.ImageDeleteRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (c *controller) ImageList(_ context.Context, r *operator.ImageListRequest) (*operator.ImageListResponse, error) {
	page, after := next(r.GetPageToken())
	return &operator.ImageListResponse{Images: []*operator.Image{{Name: fmt.Sprintf("item%d", page)}}, NextPageToken: after}, nil
}

func (c *controller) LeaseList(_ context.Context, r *operator.LeaseListRequest) (*operator.LeaseListResponse, error) {
	page, after := next(r.GetPageToken())
	return &operator.LeaseListResponse{Leases: []*operator.Lease{{Hostname: fmt.Sprintf("item%d", page)}}, NextPageToken: after}, nil
}

func (c *controller) OperationList(_ context.Context, r *operator.OperationListRequest) (*operator.OperationListResponse, error) {
	page, after := next(r.GetPageToken())
	return &operator.OperationListResponse{Operations: []*operator.Operation{{Id: fmt.Sprintf("item%d", page)}}, NextPageToken: after}, nil
}

func (c *controller) EventList(_ context.Context, r *operator.EventListRequest) (*operator.EventListResponse, error) {
	page, after := next(r.GetPageToken())
	return &operator.EventListResponse{Events: []*operator.Event{{Text: fmt.Sprintf("item%d", page)}}, NextPageToken: after}, nil
}

// OperationWatch breaks off after its first word, once.
func (c *controller) OperationWatch(r *operator.OperationGetRequest, s grpc.ServerStreamingServer[operator.Operation]) error {
	c.mu.Lock()
	c.watches++
	first := c.watches == 1
	c.mu.Unlock()
	if r.GetOperation() == "never" {
		return status.Error(codes.Unavailable, "not here")
	}
	if first {
		if err := s.Send(&operator.Operation{Id: r.GetOperation(), State: "running"}); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "the controller is stopping; watch again")
	}
	return s.Send(&operator.Operation{Id: r.GetOperation(), State: "succeeded"})
}

// EventWatch sends one event a call and breaks off, then ends.
func (c *controller) EventWatch(r *operator.EventWatchRequest, s grpc.ServerStreamingServer[operator.Event]) error {
	c.mu.Lock()
	c.resumed = append(c.resumed, r.GetResumeToken())
	n := len(c.resumed)
	c.mu.Unlock()
	if err := s.Send(&operator.Event{Text: fmt.Sprintf("item%d", n-1), ResumeToken: fmt.Sprint(n)}); err != nil {
		return err
	}
	if n < 2 {
		return status.Error(codes.Unavailable, "the controller is stopping; watch again")
	}
	return nil
}

// serve starts a controller and gives the way to run commands against it.
func serve(t *testing.T) (c *controller, ingot func(args ...string) (code int, out, errOut string)) {
	t.Helper()
	c = &controller{}
	srv := grpc.NewServer()
	operator.RegisterMachineServiceServer(srv, c)
	operator.RegisterOperationServiceServer(srv, c)
	operator.RegisterImageServiceServer(srv, c)
	operator.RegisterEventServiceServer(srv, c)
	operator.RegisterLeaseServiceServer(srv, c)
	operator.RegisterTokenServiceServer(srv, c)
	web := httptest.NewUnstartedServer(srv)
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	text := fmt.Sprintf("address: %s\nca_file: ca.pem\ntoken: ingot_x\n", web.Listener.Addr())
	for name, data := range map[string][]byte{"ca.pem": ca, "context.yaml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"--context", filepath.Join(dir, "context.yaml")}, args...), strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}
}

// TestListsAreWhole: a list that has more pages is asked for to its end.
func TestListsAreWhole(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	for _, args := range [][]string{{"image", "list"}, {"leases"}, {"operation", "list"}, {"events"}} {
		for _, form := range []string{"table", "json"} {
			code, out, errOut := ingot(append(args, "-o", form)...)
			if code != 0 {
				t.Errorf("%v: %d %s", args, code, errOut)
			}
			for i := range pageCount {
				if !strings.Contains(out, fmt.Sprintf("item%d", i)) {
					t.Errorf("%v -o %s: page %d is missing in %s", args, form, i, out)
				}
			}
		}
	}
}

// TestJSON: with -o json nothing else goes to standard output.
func TestJSON(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	for _, args := range [][]string{{"machine", "delete", "k3f9"}, {"image", "delete", "x"}, {"machine", "show", "k3f9"}, {"operation", "wait", "op"}} {
		code, out, errOut := ingot(append(args, "-o", "json")...)
		if code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%v: %d %q %q", args, code, out, errOut)
		}
	}
	_, out, _ := ingot("events", "-o", "json")
	for line := range strings.Lines(out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("an event is no line of JSON: %q", line)
		}
	}
}

// TestWatchesGoOn: a controller that is restarted does not end what waits.
func TestWatchesGoOn(t *testing.T) {
	t.Parallel()
	c, ingot := serve(t)
	if code, out, errOut := ingot("operation", "wait", "op"); code != 0 || !strings.Contains(out, "succeeded") {
		t.Errorf("wait over a restart: %d %q %q", code, out, errOut)
	}
	if code, _, errOut := ingot("operation", "wait", "never"); code != 1 || !strings.Contains(errOut, "not here") {
		t.Errorf("a controller that never answered: %d %q", code, errOut)
	}
	code, out, errOut := ingot("events", "--follow", "--resume", "0")
	if code != 0 || !strings.Contains(out, "item0") || !strings.Contains(out, "item1") {
		t.Errorf("follow over a restart: %d %q %q", code, out, errOut)
	}
	if got := fmt.Sprint(c.resumed); got != "[0 1]" {
		t.Errorf("watches went on from %s, want [0 1]", got)
	}
}

// TestOtherDoor: a controller that does not know the call is told from one that
// refuses it.
func TestOtherDoor(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	if code, _, errOut := ingot("pool", "list"); code != 1 || !strings.Contains(errOut, "8443") {
		t.Errorf("%d %q, want the API's port", code, errOut)
	}
}

// TestTerminal: what a machine says of itself moves no cursor.
func TestTerminal(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	if _, out, _ := ingot("machine", "show", "k3f9"); strings.ContainsAny(out, "\x1b\r") || !strings.Contains(out, "Evil") {
		t.Errorf("control characters reach the terminal: %q", out)
	}
}

// TestCommandLine: wrong words are told from failures by the exit status.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"foo"}, 2, "foo"},
		{[]string{"machine", "foo"}, 2, "ingot machine --help"},
		{[]string{"machine", "list", "extra"}, 2, "extra"},
		{[]string{"machine", "show"}, 2, "give a machine\n"},
		{[]string{"machine", "show", "a", "b"}, 2, "\"b\" is one word too many"},
		{[]string{"image", "import", "a"}, 2, "give a name and a file or URL; there is only [\"a\"]"},
		{[]string{"image", "prune", "a", "b"}, 2, "\"b\" is one word too many"},
		{[]string{"machine", "list", "-o", "yaml"}, 2, "table or json"},
		{[]string{"machine", "list", "--bogus"}, 2, "--bogus"},
		{[]string{"machine", "power", "m", "up"}, 2, "on, off"},
		{[]string{"--context", "/nonexistent", "machine", "list"}, 1, "ingot lab up"},
		{[]string{"lab", "status", "--dir", t.TempDir()}, 1, "no lab is up"},
		{[]string{"lab", "down", "--dir", t.TempDir()}, 1, "no lab is up"},
		{[]string{"lab", "console", "x", "--dir", t.TempDir()}, 1, "no lab is up"},
	} {
		var out, errOut bytes.Buffer
		code := run(t.Context(), tc.args, strings.NewReader(""), &out, &errOut)
		if code != tc.code || !strings.Contains(errOut.String(), tc.word) {
			t.Errorf("%v: %d %q, want %d and %q", tc.args, code, errOut.String(), tc.code, tc.word)
		}
	}
}

// TestLabSaysWhatIsMissing: before a lab is begun, and not in its log only. What
// an earlier demo said does not stand for one that could not begin.
func TestLabSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	result := filepath.Join(dir, "demo.json")
	if err := os.WriteFile(result, []byte(`{"ok": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "lab")
	for _, tc := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"lab", "up", "--machines", "nosuch"}, 2, "nosuch"},
		{[]string{"lab", "up", "--boot-dir", filepath.Join(dir, "none")}, 1, "make b"},
		{[]string{"lab", "demo", "--boot-dir", filepath.Join(dir, "none"), "--result", result}, 1, "make b"},
	} {
		var out, errOut bytes.Buffer
		code := run(t.Context(), append(tc.args, "--dir", place), strings.NewReader(""), &out, &errOut)
		if code != tc.code || !strings.Contains(errOut.String(), tc.word) {
			t.Errorf("%v: %d %q, want %d and %q", tc.args, code, errOut.String(), tc.code, tc.word)
		}
	}
	for _, path := range []string{place, result} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s stands", path)
		}
	}
}

// TestNoController: what is wrong with the way to it is said with what to do.
func TestNoController(t *testing.T) {
	t.Parallel()
	one, two := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(nil)
	two.EnableHTTP2 = true
	two.Config.ErrorLog = log.New(io.Discard, "", 0)
	two.StartTLS()
	t.Cleanup(two.Close)
	address := one.Listener.Addr().String()
	one.Close()
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: two.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	port := two.Listener.Addr().(*net.TCPAddr).Port
	for at, word := range map[string]string{address: "is ingotd running", fmt.Sprintf("localhost:%d", port): "ca_file"} {
		path := filepath.Join(dir, "context.yaml")
		if err := os.WriteFile(path, []byte("address: "+at+"\nca_file: ca.pem\ntoken: x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		if code := run(t.Context(), []string{"--context", path, "machine", "list"}, strings.NewReader(""), &out, &errOut); code != 1 || !strings.Contains(errOut.String(), word) {
			t.Errorf("%s: %d %q, want %q", at, code, errOut.String(), word)
		}
	}
}
