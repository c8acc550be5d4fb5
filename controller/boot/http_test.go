package boot

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

const (
	mac1 = "52:54:00:00:00:01"
	guid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
)

// rooms is a Directory whose answer a test sets.
type rooms struct {
	target   Target
	err      error
	sessions []SessionRequest
}

func (d *rooms) BootTarget(context.Context, net.HardwareAddr, string) (Target, error) {
	return d.target, d.err
}

func (d *rooms) SessionOpen(_ context.Context, r SessionRequest) (Session, error) {
	d.sessions = append(d.sessions, r)
	return Session{Nonce: "0123456789abcdefABCDEF", ExpiresAt: time.Unix(1, 0)}, d.err
}

type notes struct {
	mu   sync.Mutex
	list []What
}

func (n *notes) BootObserved(_ context.Context, o Observation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, o.What)
}

func bootFiles() fstest.MapFS {
	f := fstest.MapFS{FileLocalBoot: {Data: []byte("MZ" + cmdline.LocalbootGUID + " " + cmdline.LocalbootPath)}, "secret.key": {Data: []byte("s")}}
	for _, n := range []string{FileUndionly, FileSNPOnly, FileIPXE, FileKernel, FileInitramfs} {
		f[n] = &fstest.MapFile{Data: []byte("bytes of " + n)}
	}
	return f
}

func newHandler(d Directory, n *notes) *Handler {
	return NewHandler(Config{
		Files: bootFiles(), Directory: d, Observer: n, AgentAddress: ":8443", CA: strings.Repeat("ab", 32),
		Console: []string{"ttyS0,115200"}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
	})
}

func fetch(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "10.0.0.1:8080"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const good = ScriptPath + "?mac=" + mac1 + "&uuid=00112233-4455-6677-8899-AABBCCDDEEFF&arch=x86_64&platform=efi"

func TestScriptByTarget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		d        rooms
		url      string
		has, not []string
		sessions int
	}{
		{"agent", rooms{target: Target{Kind: TargetAgent, MachineID: "k3f9"}}, good,
			[]string{"k3f9 (" + mac1 + ")", "ingot.nonce=0123456789abcdefABCDEF", "ingot.controller=10.0.0.1:8443", "ingot.time=1800000000",
				"ingot.mac=" + mac1, "console=ttyS0,115200", "http://10.0.0.1:8080/boot/vmlinuz?mac=" + mac1}, nil, 1},
		{"agent with its own console", rooms{target: Target{Kind: TargetAgent, Agent: AgentTarget{Console: []string{"ttyS1"}}}}, good,
			[]string{"console=ttyS1"}, []string{"ttyS0"}, 1},
		{"agent on arm64", rooms{target: Target{Kind: TargetAgent}}, strings.Replace(good, "x86_64", "arm64", 1), []string{"no agent for arm64"}, []string{"nonce"}, 0},
		{"disk, UEFI", rooms{target: Target{Kind: TargetDisk, Disk: DiskTarget{FirmwareMode: FirmwareUEFI, PartitionGUID: guid, LoaderPath: "/EFI/BOOT/BOOTX64.EFI"}}}, good,
			[]string{"localboot.efi?guid=" + guid + "&path=%2FEFI%2FBOOT%2FBOOTX64.EFI"}, []string{"nonce", "sanboot"}, 0},
		{"disk, BIOS", rooms{target: Target{Kind: TargetDisk}}, strings.Replace(good, "efi", "pcbios", 1), []string{"sanboot --no-describe --drive 0x80"}, []string{"localboot"}, 0},
		{"disk, UEFI, loader unknown", rooms{target: Target{Kind: TargetDisk}}, good, []string{"no known UEFI loader"}, []string{"chain"}, 0},
		{"disk, installed for the other firmware", rooms{target: Target{Kind: TargetDisk, Disk: DiskTarget{FirmwareMode: FirmwareUEFI}}},
			strings.Replace(good, "efi", "pcbios", 1), []string{"warning: the system was installed for uefi"}, nil, 0},
		{"nothing", rooms{target: Target{Kind: TargetNothing, Reason: "two machines have one UUID"}}, good, []string{"two machines have one UUID"}, []string{"nonce"}, 0},
		{"zero target is nothing", rooms{}, good, []string{"nothing to start"}, []string{"nonce"}, 0},
		{"store away", rooms{err: errors.New("password=x refused")}, good, []string{"the controller cannot answer now", "chain --replace"}, []string{"password", "nonce"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := fetch(newHandler(&tt.d, &notes{}), "GET", tt.url)
			text := body(t, r)
			if r.StatusCode != 200 || !strings.HasPrefix(text, "#!ipxe\n") {
				t.Fatalf("got %s %q, want a script", r.Status, text)
			}
			for _, s := range tt.has {
				if !strings.Contains(text, s) {
					t.Errorf("got a script without %q:\n%s", s, text)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(text, s) {
					t.Errorf("got a script with %q:\n%s", s, text)
				}
			}
			if len(tt.d.sessions) != tt.sessions {
				t.Errorf("got %d sessions, want %d", len(tt.d.sessions), tt.sessions)
			}
		})
	}
}

func TestHeadOpensNoSession(t *testing.T) {
	t.Parallel()
	d := &rooms{target: Target{Kind: TargetAgent}}
	if r := fetch(newHandler(d, &notes{}), "HEAD", good); r.StatusCode != 200 || len(d.sessions) != 0 {
		t.Errorf("got %s and %d sessions, want 200 and none", r.Status, len(d.sessions))
	}
	fetch(newHandler(d, &notes{}), "GET", good)
	want := []SessionRequest{{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, UUID: "00112233-4455-6677-8899-aabbccddeeff", Arch: "x86_64", FirmwareMode: FirmwareUEFI, Interface: "10.0.0.1:8080"}}
	if diff := cmp.Diff(d.sessions, want); diff != "" {
		t.Errorf("got - want +\n%s", diff)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := newHandler(&rooms{target: Target{Kind: TargetAgent}}, &notes{})
	for target, want := range map[string]int{
		ScriptPath: 400, ScriptPath + "?mac=zz&arch=x86_64&platform=efi": 400, good + "&extra=1": 400, good + "&mac=" + mac1: 400,
		ScriptPath + "?mac=ff:ff:ff:ff:ff:ff&arch=x86_64&platform=efi": 400, ScriptPath + "?mac=00:00:00:00:00:00&arch=x86_64&platform=efi": 400,
		ScriptPath + "?mac=" + mac1 + "&arch=x86_64&platform=efi&uuid=${uuid}": 400, ScriptPath + "?mac=" + mac1 + "&arch=vax&platform=efi": 400,
		ScriptPath + "?mac=" + mac1 + "&arch=x86_64&platform=mips": 400, ScriptPath + "?mac=%zz": 400,
		"/boot/": 404, "/boot": 404, "/": 404, "/boot/secret.key": 404, "/boot/../secret.key": 404, "/boot/..%2fsecret.key": 404, "/boot/undionly.kpxe": 404,
		"/boot/localboot.efi": 400, "/boot/localboot.efi?guid=" + guid + "&path=/EFI/../x": 400, "/boot/localboot.efi?guid=" + guid + "&path=/a'b": 400,
		"/boot/vmlinuz?mac=1": 400, "/boot/vmlinuz?x=1": 400, "/boot/vmlinuz?mac=" + strings.Repeat("a", 2000): 414,
	} {
		if r := fetch(h, "GET", target); r.StatusCode != want {
			t.Errorf("GET %.80s: got %d, want %d", target, r.StatusCode, want)
		}
	}
	if r := fetch(h, "POST", good); r.StatusCode != 405 {
		t.Errorf("POST: got %d, want 405", r.StatusCode)
	}
	r := httptest.NewRequest("GET", good, nil)
	r.Host = "evil${x}:80"
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 400 {
		t.Errorf("Host with an iPXE expansion: got %d, want 400", w.Code)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	n := &notes{}
	h := newHandler(&rooms{}, n)
	// UEFI does not follow redirects: an unclean path must be answered directly.
	for _, p := range []string{"/boot/vmlinuz", "//boot//vmlinuz", "/boot/./vmlinuz?mac=" + mac1} {
		if r := fetch(h, "GET", p); r.StatusCode != 200 || body(t, r) != "bytes of vmlinuz" {
			t.Errorf("GET %s: got %s, want the kernel", p, r.Status)
		}
	}
	if r := fetch(h, "HEAD", "/boot/ipxe.efi"); r.ContentLength != int64(len("bytes of ipxe.efi")) || r.Header.Get("Content-Type") != "application/efi" {
		t.Errorf("HEAD: got %d bytes of %q", r.ContentLength, r.Header.Get("Content-Type"))
	}
	if r := fetch(h, "GET", "/boot/initramfs.zst", "Range", "bytes=0-4"); r.StatusCode != 206 || body(t, r) != "bytes" {
		t.Errorf("range: got %s, want 206 and 5 bytes", r.Status)
	}
	r := fetch(h, "GET", "/boot/localboot.efi?guid="+guid+"&path=/EFI/BOOT/BOOTX64.EFI&mac="+mac1)
	if text := body(t, r); !strings.Contains(text, guid+" '/EFI/BOOT/BOOTX64.EFI'") {
		t.Errorf("localboot.efi: got %q, want it made for the partition", text)
	}
	want := []What{SeenKernel, SeenKernel, SeenKernel, SeenLocalBoot}
	if d := cmp.Diff(n.list, want); d != "" {
		t.Errorf("only whole files are noted: got - want +\n%s", d)
	}
}
