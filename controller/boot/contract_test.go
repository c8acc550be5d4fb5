package boot_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	tftpclient "github.com/pin/tftp/v3"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/boot/tftp"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

// kinds is a Directory that answers one kind of target.
type kinds boot.TargetKind

func (k kinds) BootTarget(context.Context, net.HardwareAddr, string) (boot.Target, error) {
	return boot.Target{Kind: boot.TargetKind(k), Disk: boot.DiskTarget{
		PartitionGUID: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", LoaderPath: "/EFI/debian/shimx64.efi"}}, nil
}

func (kinds) SessionOpen(context.Context, boot.SessionRequest) (boot.Session, error) {
	return boot.Session{Nonce: "0123456789abcdefABCDEF"}, nil
}

// Whatever DHCP can offer, to any client and whatever the store says, is really
// served, and so is whatever the scripts behind those offers point at.
func TestEverythingOfferedIsServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range append(boot.TFTPFiles(), boot.FileKernel, boot.FileInitramfs, boot.FileLocalBoot) {
		data := name + cmdline.LocalbootGUID + cmdline.LocalbootPath
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fetchTFTP := startTFTP(t, dir)
	served := map[string]bool{}
	for _, kind := range []boot.TargetKind{boot.TargetAgent, boot.TargetDisk, boot.TargetNothing} {
		srv := httptest.NewServer(boot.NewHandler(boot.Config{
			Files: os.DirFS(dir), Directory: kinds(kind), AgentAddress: ":8443", CA: strings.Repeat("ab", 32), Log: slog.New(slog.DiscardHandler)}))
		defer srv.Close()
		for _, a := range everyAsker() {
			o := boot.Decide(a, kind, srv.URL)
			switch {
			case o.File == "":
			case o.TFTP:
				served[o.File] = true
				if err := fetchTFTP(o.File); err != nil {
					t.Errorf("%+v was offered %s by TFTP: %v", a, o.File, err)
				}
			default:
				follow(t, strings.NewReplacer("${buildarch}", "x86_64", "${platform}", "efi").Replace(o.File), served, 1)
			}
		}
	}
	for _, want := range []string{boot.FileUndionly, boot.FileSNPOnly, "/boot/ipxe.efi", "/boot/script", "/boot/vmlinuz", "/boot/initramfs.zst", "/boot/localboot.efi"} {
		if !served[want] {
			t.Errorf("no offer led to %s, so the walk looked at too little; served: %v", want, served)
		}
	}
}

func everyAsker() []boot.Asker {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	var out []boot.Asker
	for _, class := range []string{"", "PXEClient:Arch:0", "HTTPClient:Arch:0", "MSFT 5.0"} {
		for _, ipxe := range []bool{false, true} {
			for _, uuid := range []string{"", "00112233-4455-6677-8899-aabbccddeeff"} {
				out = append(out, boot.Asker{IPXE: ipxe, VendorClass: class, MAC: mac, UUID: uuid})
				for arch := range 40 {
					out = append(out, boot.Asker{IPXE: ipxe, VendorClass: class, MAC: mac, UUID: uuid, Archs: []boot.Arch{boot.Arch(arch)}})
				}
			}
		}
	}
	return out
}

var inScript = regexp.MustCompile(`http://[^\s]+`)

// follow fetches an address, and what a script there points at.
func follow(t *testing.T, url string, served map[string]bool, depth int) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("GET %s: got %s, %v; want 200", url, resp.Status, err)
		return
	}
	served[resp.Request.URL.Path] = true
	// A script points back at itself to try again.
	if !strings.HasPrefix(string(text), "#!ipxe") || depth == 0 {
		return
	}
	for _, next := range inScript.FindAllString(string(text), -1) {
		follow(t, next, served, depth-1)
	}
}

func startTFTP(t *testing.T, dir string) func(name string) error {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- tftp.New(tftp.Config{Files: os.DirFS(dir), Log: slog.New(slog.DiscardHandler)}).Run(ctx, conn)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func(name string) error {
		c, err := tftpclient.NewClient(conn.LocalAddr().String())
		if err != nil {
			return err
		}
		in, err := c.Receive(name, "octet")
		if err != nil {
			return err
		}
		n, err := in.WriteTo(io.Discard)
		if err == nil && n == 0 {
			err = fmt.Errorf("%s came empty", name)
		}
		return err
	}
}
