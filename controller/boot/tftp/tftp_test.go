package tftp

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/fstest"

	client "github.com/pin/tftp/v3"

	"github.com/ingot-metal/ingot/controller/boot"
)

type seen chan boot.Observation

func (s seen) BootObserved(_ context.Context, o boot.Observation) { s <- o }

func start(t *testing.T, files fstest.MapFS, obs boot.Observer) *client.Client {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := New(Config{Files: files, Observer: obs, Log: slog.New(slog.DiscardHandler)})
	go func() { done <- s.Run(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	c, err := client.NewClient(conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetBlockSize(1432)
	c.RequestTSize(true)
	return c
}

func TestServesLoadersAndNothingElse(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("undionly"), 10_000)
	obs := make(seen, 10)
	c := start(t, fstest.MapFS{"undionly.kpxe": {Data: want}, "vmlinuz": {Data: []byte("x")}, "snponly.efi": {Data: nil}}, obs)
	for _, name := range []string{"undionly.kpxe", "/undionly.kpxe", "//./undionly.kpxe", `\undionly.kpxe`} {
		in, err := c.Receive(name, "octet")
		if err != nil {
			t.Fatalf("receive %q: %v", name, err)
		}
		if n, ok := in.(client.IncomingTransfer).Size(); !ok || n != int64(len(want)) {
			t.Errorf("tsize of %q: got %d %v, want %d", name, n, ok, len(want))
		}
		var got bytes.Buffer
		if _, err := in.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("receive %q: got %d bytes, %v; want the file", name, got.Len(), err)
		}
		if o := <-obs; o.What != boot.SeenLoader || o.Addr.String() != "127.0.0.1" {
			t.Errorf("got observation %+v, want the loader sent to 127.0.0.1", o)
		}
	}
	for name, want := range map[string]string{
		"vmlinuz": "only undionly.kpxe", "../undionly.kpxe/x": "only undionly.kpxe", "/etc/passwd": "only undionly.kpxe", "": "only",
		"ipxe.efi": "missing on the controller", strings.Repeat("a", 300): "too long",
	} {
		if _, err := c.Receive(name, "octet"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("receive %.20q: got %v, want an error that says %q", name, err, want)
		}
	}
	if _, err := c.Send("undionly.kpxe", "octet"); err == nil || !strings.Contains(err.Error(), "write") {
		t.Errorf("send: got %v, want a refusal", err)
	}
}

func TestAllowedTreatsNamesAsPaths(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"snponly.efi": "snponly.efi", "../../snponly.efi": "snponly.efi", "a/../snponly.efi": "snponly.efi",
		"a/snponly.efi": "", "snponly.efi\x00": "", "SNPONLY.EFI": "", "localboot.efi": "", ".": "",
	} {
		if got, err := allowed(name); got != want || (err == nil) != (want != "") {
			t.Errorf("allowed(%q): got %q, %v; want %q", name, got, err, want)
		}
	}
}
