package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/operator"
)

// version imports an image of which the bytes are its version's.
func (s *site) version(name, version, arch string, n int) *operator.Image {
	s.t.Helper()
	img, err := s.imported(&operator.ImageHeader{Name: name, Version: version, Architecture: arch, Format: "raw"},
		bytes.Repeat([]byte(fmt.Sprintf("%-16s", fmt.Sprint(version, arch, n))), 64<<10))
	if err != nil {
		s.t.Fatal(err)
	}
	return img
}

// exported is what ImageExport gives.
func (s *site) exported(image, format string) ([]byte, error) {
	s.t.Helper()
	stream, err := s.images.ImageExport(s.soon(), &operator.ImageExportRequest{Image: image, Format: format})
	if err != nil {
		s.t.Fatal(err)
	}
	var out []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, part.GetData()...)
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code, words ...string) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
	for _, w := range words {
		if !strings.Contains(fmt.Sprint(err), w) {
			t.Errorf("%s: %v does not say %q", what, err, w)
		}
	}
}

// TestVersions: what a name means, and that a word which could mean several
// images means none.
func TestVersions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	two := s.version("debian", "2", "amd64", 1)
	ten := s.version("debian", "10", "amd64", 1)
	arm := s.version("debian", "11", "arm64", 1)
	s.version("twice", "1", "amd64", 1)
	s.version("twice", "1", "amd64", 2)
	s.version("plain", "", "amd64", 1)
	plain := s.version("plain", "", "amd64", 2)
	get := func(word string) (string, error) {
		img, err := s.images.ImageGet(t.Context(), &operator.ImageGetRequest{Image: word})
		return img.GetDigest(), err
	}
	for word, want := range map[string]string{
		"debian@2": two.GetDigest(), "debian@10": ten.GetDigest(), "debian@11": arm.GetDigest(), arm.GetDigest(): arm.GetDigest(),
		"plain": plain.GetDigest(), "plain@": plain.GetDigest(),
	} {
		if got, err := get(word); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", word, got, err, want)
		}
	}
	_, err := get("debian")
	wantCode(t, "two architectures", err, codes.InvalidArgument, "debian@10 for amd64", "debian@11 for arm64", two.GetDigest())
	_, err = get("twice")
	wantCode(t, "two digests of a version", err, codes.InvalidArgument, "NAME@VERSION or by its digest")
	_, err = get("debian@9")
	wantCode(t, "no such version", err, codes.NotFound, "debian@10")
	op, err := s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: s.ready(1).GetId(), Image: "debian", Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.store.OperationGet(t.Context(), op.GetId())
	if err != nil || "sha256:"+kept.Wish.Deploy.ImageDigest != ten.GetDigest() || !kept.Wish.Deploy.Reuse {
		t.Errorf("the machine's architecture: got %+v, %v, want %s and reuse", kept.Wish.Deploy, err, ten.GetDigest())
	}
	other := s.ready(2)
	_, err = s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: other.GetId(), Image: "debian@11"})
	wantCode(t, "another architecture", err, codes.FailedPrecondition, "amd64", "arm64")
	_, err = s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: other.GetId(), Image: arm.GetDigest()})
	wantCode(t, "another architecture by digest", err, codes.FailedPrecondition, "amd64", "arm64")
	_, err = s.images.ImageDelete(t.Context(), &operator.ImageDeleteRequest{Image: "debian"})
	wantCode(t, "delete of several", err, codes.InvalidArgument)
	_, err = s.images.ImageDelete(t.Context(), &operator.ImageDeleteRequest{Image: "debian@10"})
	wantCode(t, "delete in use", err, codes.FailedPrecondition, "in use by machine ")
	for _, version := range []string{"a b", "1@2", "\n", strings.Repeat("1", 101)} {
		_, err := s.imported(&operator.ImageHeader{Name: "x", Version: version, Architecture: "amd64"}, nil)
		wantCode(t, "version "+version, err, codes.InvalidArgument)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, v := range []string{"1", "2", "3", "10"} {
		s.version("debian", v, "amd64", 1)
	}
	s.version("debian", "1", "arm64", 1)
	if _, err := s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: s.ready(1).GetId(), Image: "debian@2"}); err != nil {
		t.Fatal(err)
	}
	prune := func(r *operator.ImagePruneRequest) string {
		got, err := s.images.ImagePrune(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, i := range got.GetImages() {
			text += i.GetVersion() + " "
		}
		for _, i := range got.GetInUse() {
			text += "(" + i.GetVersion() + ") "
		}
		return text
	}
	for _, dry := range []bool{true, false} {
		if got, want := prune(&operator.ImagePruneRequest{Keep: 2, DryRun: dry}), "1 (2) "; got != want {
			t.Errorf("dry run %v: got %q, want %q", dry, got, want)
		}
	}
	if got, want := prune(&operator.ImagePruneRequest{Name: "debian"}), "3 (2) "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	list, err := s.images.ImageList(t.Context(), &operator.ImageListRequest{Name: "debian"})
	if err != nil || len(list.GetImages()) != 3 {
		t.Errorf("got %v, %v, want 3 images", list, err)
	}
	_, err = s.images.ImagePrune(t.Context(), &operator.ImagePruneRequest{Name: "none"})
	wantCode(t, "no such name", err, codes.NotFound)
}

// TestExportAndVerify: what goes out is what came in, by gRPC and by REST.
func TestExportAndVerify(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := bytes.Repeat([]byte("0123456789abcdef"), 100<<10)
	img, err := s.imported(&operator.ImageHeader{Name: "debian", Architecture: "amd64", Format: "raw"}, disk)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.exported("debian", "raw"); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("raw: %d bytes, %v, want the %d that came in", len(got), err, len(disk))
	}
	canonical, err := s.exported("debian", "manifest")
	if err != nil || string(manifest.DigestOf(canonical)) != img.GetDigest() {
		t.Errorf("manifest: %v, want one with digest %s", err, img.GetDigest())
	}
	r, err := http.NewRequestWithContext(s.soon(), "GET", s.base+"/v1/images/debian:export?format=raw", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Accept", "application/octet-stream")
	answer, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("REST: %s, %d bytes, %v", answer.Status, len(got), err)
	}
	for _, path := range []string{"/v1/images/debian:export?format=tape", "/v1/images/none:export?format=raw"} {
		if code, text := s.rest("GET", path, s.token, nil); code/100 != 4 {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, text := s.rest("POST", "/v1/images/debian:verify", s.token, map[string]any{}); code != 200 || !strings.Contains(text, `"verified":true`) {
		t.Errorf("verify: %d %s", code, text)
	}
	if code, text := s.rest("GET", "/v1/images/debian@?", s.token, nil); code != 200 || !strings.Contains(text, img.GetDigest()) {
		t.Errorf("by reference: %d %s", code, text)
	}
	frames := filepath.Join(s.dir, strings.TrimPrefix(img.GetDigest(), "sha256:"), "frames.zst")
	data, err := os.ReadFile(frames)
	if err != nil {
		t.Fatal(err)
	}
	data[20] ^= 1
	if err := os.WriteFile(frames, data, 0o600); err != nil {
		t.Fatal(err)
	}
	stream, err := s.images.ImageVerify(s.soon(), &operator.ImageGetRequest{Image: "debian"})
	for err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, "damaged", err, codes.FailedPrecondition, "import it again")
	_, err = s.exported("debian", "raw")
	wantCode(t, "export of a damaged one", err, codes.FailedPrecondition)
	r.URL.RawQuery = "format=raw"
	if answer, err := s.client.Do(r); err == nil {
		defer answer.Body.Close()
		if got, err := io.ReadAll(answer.Body); err == nil && answer.StatusCode == 200 {
			t.Errorf("a damaged export looks whole over REST: %d bytes", len(got))
		}
	}
}

// signWith signs an image as the command line does.
func (s *site) signWith(secret sign.Secret, img *operator.Image) *operator.Image {
	s.t.Helper()
	canonical, err := s.exported(img.GetDigest(), "manifest")
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := secret.Sign(canonical, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := s.images.ImageSign(s.t.Context(), &operator.ImageSignRequest{Image: img.GetDigest(), Signature: text})
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}

// TestStockSignature: minisign signs what is exported, and the site takes it.
func TestStockSignature(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("minisign")
	if err != nil {
		t.Fatal("this test needs minisign: apt install minisign (tools/deps.sh does)")
	}
	s := newSite(t)
	s.image("debian")
	dir := t.TempDir()
	canonical, err := s.exported("debian", "manifest")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), canonical, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-G", "-W", "-p", "k.pub", "-s", "k.key"}, {"-S", "-s", "k.key", "-m", "manifest.json", "-x", "sig"}} {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("minisign %v: %v\n%s", args, err, out)
		}
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if _, err := s.images.TrustedKeyAdd(t.Context(), &operator.TrustedKeyAddRequest{Name: "stock", PublicKey: string(read("k.pub"))}); err != nil {
		t.Fatal(err)
	}
	img, err := s.images.ImageSign(t.Context(), &operator.ImageSignRequest{Image: "debian", Signature: read("sig")})
	if err != nil || img.GetSignatures()[0].GetTrustedBy() != "stock" || !strings.Contains(img.GetSignatures()[0].GetComment(), "manifest.json") {
		t.Errorf("got %v, %v", img, err)
	}
}
