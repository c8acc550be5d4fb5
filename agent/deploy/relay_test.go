package deploy

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/agent"
)

// fullImage is an image with 6 MiB that do not compress.
func fullImage(t *testing.T) *image {
	t.Helper()
	dir := t.TempDir()
	path, esp, root := filepath.Join(dir, "raw"), filepath.Join(dir, "esp"), filepath.Join(dir, "root")
	file(t, path, 24<<20)
	tool(t, gptScript, "sfdisk", "-q", path)
	file(t, esp, espSize)
	tool(t, "", "mkfs.vfat", "-n", "ESP", esp)
	data := make([]byte, 6<<20)
	rand.Read(data)
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "tree", "data"), data, 0o600))
	file(t, root, rootSize)
	tool(t, "", "mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", filepath.Join(dir, "tree"), root)
	splice(t, path, esp, espStart)
	splice(t, path, root, rootStart)
	in, err := os.Open(path)
	must(t, err)
	defer in.Close()
	input, err := pack.FileInput(in)
	must(t, err)
	out := filepath.Join(dir, "packed")
	result, err := pack.Pack(t.Context(), input, out, pack.Options{Format: pack.Raw, Architecture: "amd64", Name: "test", FrameSize: 256 << 10})
	must(t, err)
	im := &image{raw: read(t, path), digest: result.Digest, manifest: read(t, filepath.Join(out, pack.ManifestFile))}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		im.asked.Add(1)
		http.ServeFile(w, r, filepath.Join(out, pack.FramesFile))
	}))
	t.Cleanup(server.Close)
	im.url, im.client = server.URL, server.Client()
	return im
}

// exchange stands for the controller: it keeps what machines say, and names the
// upstream that the test has set.
type exchange struct {
	mu     sync.Mutex
	states []*agent.RelayState
	serves chan string // URL of the first machine that serves
	name   *agent.RelayUpstream
}

func (e *exchange) door(id string) *Relay {
	return &Relay{MachineID: id, RingBytes: 32 << 20,
		Listen: func() (net.Listener, error) { return ListenBeside("127.0.0.1:9") },
		Send: func(s *agent.RelayState) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.states = append(e.states, s)
			if len(s.Urls) > 0 {
				select {
				case e.serves <- s.Urls[0]:
				default:
				}
			}
		},
		Receive: func(_ int64, tell func(*agent.RelayUpstream)) func() {
			if e.name != nil {
				tell(e.name)
			}
			return func() {}
		},
	}
}

// holding stops the writer at a phase until it may go on.
type holding struct {
	deaf
	phase         string
	reached, goOn chan struct{}
	once          sync.Once
}

func (h *holding) Progress(p *agent.Progress) {
	if p.Phase == h.phase {
		h.once.Do(func() { close(h.reached); <-h.goOn })
	}
}

func TestDeployFromAPeer(t *testing.T) {
	t.Parallel()
	im := fullImage(t)
	key := bytes.Repeat([]byte{7}, 32)
	first, second := &exchange{serves: make(chan string, 1)}, &exchange{serves: make(chan string, 1)}
	a, b := newBench(t, im), newBench(t, im)
	a.machine.Relay, b.machine.Relay = first.door("machine-a"), second.door("machine-b")
	a.order.Relay, b.order.Relay = &agent.Relay{Key: key}, &agent.Relay{Key: key}

	hold := &holding{phase: "verify", reached: make(chan struct{}), goOn: make(chan struct{})}
	plan, err := Plan(a.machine, a.order)
	must(t, err)
	ended := make(chan *agent.JobResult, 1)
	go func() {
		result, _ := (&job.Runner{To: hold, Log: slog.New(slog.DiscardHandler)}).Execute(t.Context(), 1, 1, plan)
		ended <- result
	}()
	select {
	case <-hold.reached:
	case result := <-ended:
		t.Fatalf("the first deploy ended early: %v", result)
	}
	url := <-first.serves
	second.name = &agent.RelayUpstream{OrderId: 1, MachineId: "machine-a", Urls: []string{url}}
	result, _ := b.deploy(1)
	close(hold.goOn)
	m, err := manifest.Parse(im.manifest)
	must(t, err)
	for _, r := range []*agent.JobResult{result, <-ended} {
		if r.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || !r.GetDeploy().Verified {
			t.Errorf("got %v, want a verified deploy", r)
		}
	}
	// What prepare looked at comes from the controller, all else from the peer.
	if got, want := result.GetDeploy().BytesFromPeers, m.FetchBytes()/2; got < want {
		t.Errorf("bytes from peers: got %d, want at least %d", got, want)
	}
	a.checkDisk(1)
	b.checkDisk(1)
	last := second.states[len(second.states)-1]
	if !last.Done || len(last.Urls) != 0 || last.FromPeersBytes != result.GetDeploy().BytesFromPeers || last.FailedUpstream != "" {
		t.Errorf("last state of the second machine: got %v", last)
	}
	if _, err := net.Dial("tcp", url[len("http://"):]); err == nil {
		t.Error("the first machine serves after its deploy")
	}
}

// zeroPeer serves frames of zeros, in good order.
func zeroPeer(t *testing.T, im *image) string {
	t.Helper()
	m, err := manifest.Parse(im.manifest)
	must(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var first, last int
		if _, err := fmt.Sscanf(r.URL.RawQuery, "first=%d&last=%d", &first, &last); err != nil {
			t.Errorf("query %q: %v", r.URL.RawQuery, err)
		}
		for i := first; i <= last; i++ {
			if f := m.Frames[i]; !f.Zero {
				head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{'F', 0, 0, 0}, uint32(i)), m.PackedSizeBytes)
				_, _ = w.Write(append(head, make([]byte, f.PackedSize)...))
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A relay that cannot work, or that lies, fails no deploy.
func TestDeployWithoutItsRelay(t *testing.T) {
	t.Parallel()
	im := fullImage(t)
	garbage := zeroPeer(t, im)
	for name, change := range map[string]func(*bench, *exchange){
		"no key": func(b *bench, _ *exchange) { b.order.Relay.Key = nil },
		"no listener": func(b *bench, _ *exchange) {
			b.machine.Relay.Listen = func() (net.Listener, error) { return nil, errors.New("no port is free") }
		},
		"dead peer": func(_ *bench, e *exchange) {
			e.name = &agent.RelayUpstream{MachineId: "machine-b", Urls: []string{"http://127.0.0.1:1"}}
		},
		"garbage": func(_ *bench, e *exchange) {
			e.name = &agent.RelayUpstream{MachineId: "machine-b", Urls: []string{garbage}}
		},
		"senseless peer": func(_ *bench, e *exchange) {
			e.name = &agent.RelayUpstream{MachineId: "machine-b", Urls: []string{"file:///etc/passwd"}}
		},
	} {
		e := &exchange{serves: make(chan string, 1)}
		b := newBench(t, im)
		b.machine.Relay = e.door("machine-a")
		b.order.Relay = &agent.Relay{Key: bytes.Repeat([]byte{7}, 32)}
		change(b, e)
		result, _ := b.deploy(1)
		last := e.states
		if name == "garbage" && !slices.ContainsFunc(last, func(s *agent.RelayState) bool { return s.Failure == "garbage" && s.FailedUpstream == "machine-b" }) {
			t.Errorf("%s: the controller was not told: %v", name, last)
		}
		if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || !result.GetDeploy().Verified {
			t.Errorf("%s: got %v, want a verified deploy", name, result)
		}
	}
}
