package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/operator"
)

// ImageExport gives some bytes and then breaks off where the format says so.
func (c *controller) ImageExport(r *operator.ImageExportRequest, s grpc.ServerStreamingServer[operator.ImageExportResponse]) error {
	for range 4 {
		if err := s.Send(&operator.ImageExportResponse{Data: make([]byte, 1<<20)}); err != nil {
			return err
		}
	}
	if r.GetFormat() == "qcow2" {
		return status.Error(codes.FailedPrecondition, "frame 4 is damaged")
	}
	return s.Send(&operator.ImageExportResponse{Data: []byte("the end")})
}

// ImageGet names an image whose manifest the export above does not give.
func (c *controller) ImageGet(_ context.Context, r *operator.ImageGetRequest) (*operator.Image, error) {
	return &operator.Image{Name: r.GetImage(), Digest: "sha256:" + strings.Repeat("0", 64)}, nil
}

// TestExportIsWholeOrNothing: also its holes are what was sent.
func TestExportIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.raw")
	if code, _, errOut := ingot("image", "export", "x", path); code != 0 {
		t.Fatal(errOut)
	}
	want := append(make([]byte, 4<<20), "the end"...)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("it takes %d bytes on the disk, %v, want holes", st.Blocks*512, err)
	}
	if code, _, errOut := ingot("image", "export", "x", path); code != 1 || !strings.Contains(errOut, "--force") {
		t.Errorf("a file that is there: %d %q", code, errOut)
	}
	if code, _, errOut := ingot("image", "export", "x", filepath.Join(dir, "x.qcow2")); code != 1 || !strings.Contains(errOut, "damaged") {
		t.Errorf("an export that breaks off: %d %q", code, errOut)
	}
	if code, _, errOut := ingot("image", "export", "x", filepath.Join(dir, "x")); code != 2 || !strings.Contains(errOut, "--format") {
		t.Errorf("no format: %d %q", code, errOut)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the one file", entries, err)
	}
}

// TestSignsWhatTheDigestNames and nothing that a controller puts in its place.
func TestSignsWhatTheDigestNames(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	secret, err := sign.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	file, err := secret.File("")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := ingot("image", "sign", "x", "--key", key); code != 1 || !strings.Contains(errOut, "manifest") {
		t.Errorf("another manifest: %d %q", code, errOut)
	}
	for _, args := range [][]string{{}, {"--key", key, "--remove", "1"}} {
		if code, _, errOut := ingot(append([]string{"image", "sign", "x"}, args...)...); code != 2 || !strings.Contains(errOut, "--signature") {
			t.Errorf("%v: %d %q", args, code, errOut)
		}
	}
}

// TestChooseFormat: without a terminal only a raw disk is taken unasked.
func TestChooseFormat(t *testing.T) {
	t.Parallel()
	gpt := make([]byte, 4096)
	copy(gpt[512:], "EFI PART")
	tarred := make([]byte, 1024)
	copy(tarred[257:], "ustar")
	for name, c := range map[string]struct {
		first  []byte
		stated string
		yes    bool
		want   string // empty: refused
	}{
		"raw":            {gpt, "auto", false, "raw"},
		"qcow2":          {[]byte("QFI\xfb\x00\x00\x00\x03"), "auto", false, ""},
		"qcow2, yes":     {[]byte("QFI\xfb\x00\x00\x00\x03"), "auto", true, "qcow2"},
		"qcow2, stated":  {[]byte("QFI\xfb\x00\x00\x00\x03"), "raw", false, "raw"}, // the controller refuses it
		"zstd":           {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0}, "auto", false, ""},
		"zstd, yes":      {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0}, "auto", true, "raw.zst"},
		"a bundle":       {tarred, "auto", true, "bundle"},
		"VMDK":           {[]byte("KDMV\x01\x00\x00\x00"), "auto", true, ""},
		"a stated blank": {nil, "raw", false, "raw"},
	} {
		cli := &cli{in: strings.NewReader(""), out: io.Discard, errOut: io.Discard}
		i := &importFlags{yes: c.yes}
		i.header.Format = c.stated
		err := cli.chooseFormat(i, "file", bufio.NewReaderSize(bytes.NewReader(c.first), pack.RecogniseBytes))
		if (err == nil) != (c.want != "") || err == nil && i.header.Format != c.want {
			t.Errorf("%s: got %s, %v, want %q", name, i.header.Format, err, c.want)
		}
	}
}

// TestProveSource: a file is compared with its signature before it is sent, and
// the controller told what its hash was.
func TestProveSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	secret, err := sign.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	text, err := secret.Sign([]byte("content"), "disk")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{path: []byte("content"), path + ".minisig": text, filepath.Join(dir, "other"): []byte("other")} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	prove := func(path string, i *importFlags) error {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := (&cli{}).proveSource(i, path, f); err != nil {
			return err
		}
		if rest, err := io.ReadAll(f); err != nil || len(rest) == 0 {
			return fmt.Errorf("nothing is left to send: %w", errors.Join(err))
		}
		return nil
	}
	i := &importFlags{key: secret.Public().String()}
	if err := prove(path, i); err != nil || len(i.header.SourceSha256) != 64 {
		t.Errorf("got %q, %v", i.header.SourceSha256, err)
	}
	if err := prove(filepath.Join(dir, "other"), &importFlags{key: secret.Public().String(), signature: path + ".minisig"}); err == nil {
		t.Error("another file was taken")
	}
	if err := prove(path, &importFlags{signature: "x"}); !errors.As(err, &usageError{}) {
		t.Errorf("a signature without a key: %v", err)
	}
}
