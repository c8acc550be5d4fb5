package api_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/operator"
)

// TestBundle moves a signed image to another site.
func TestBundle(t *testing.T) {
	t.Parallel()
	one, two := newSite(t), newSite(t)
	img, err := one.imported(&operator.ImageHeader{Name: "debian", Version: "12", Architecture: "amd64", Format: "raw", KexecForbidden: true, Private: true},
		append(make([]byte, 3<<20), bytes.Repeat([]byte("content "), 100<<10)...))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := sign.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	one.signWith(secret, img)
	bundle, err := one.exported("debian", "bundle")
	if err != nil {
		t.Fatal(err)
	}
	got, err := two.imported(&operator.ImageHeader{Name: "debian"}, bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetDigest() != img.GetDigest() || got.GetVersion() != "12" || got.GetKexec() || !got.GetPrivate() || len(got.GetSignatures()) != 1 {
		t.Errorf("got %v, want the same as %v with its signature", got, img)
	}
	if _, err := two.images.TrustedKeyAdd(t.Context(), &operator.TrustedKeyAddRequest{Name: "site", PublicKey: string(secret.Public().File())}); err != nil {
		t.Fatal(err)
	}
	got, err = two.images.ImageGet(t.Context(), &operator.ImageGetRequest{Image: "debian@12"})
	if err != nil || got.GetSignatures()[0].GetTrustedBy() != "site" || got.GetHoleBytes() != 3<<20 || len(got.GetCopies()) != 1 {
		t.Errorf("got %v, %v, want a signature that is trusted and 3 MiB of holes", got, err)
	}
	if again, err := two.exported(img.GetDigest(), "bundle"); err != nil || !bytes.Equal(again, bundle) {
		t.Errorf("exported again: %d bytes, %v, want the same %d", len(again), err, len(bundle))
	}
	for at := range 64 { // a bit anywhere
		bad := bytes.Clone(bundle)
		bad[at*len(bad)/64] ^= 1
		if _, err := two.imported(&operator.ImageHeader{Name: "debian", Format: "bundle"}, bad); err == nil && !harmless(t, bad, bundle) {
			t.Errorf("a bundle with a changed bit at %d of %d was taken", at*len(bad)/64, len(bad))
		}
	}
}

// harmless says whether two tars hold the same where a signature or a hash covers
// it: padding and dates are nobody's content.
func harmless(t *testing.T, a, b []byte) bool {
	t.Helper()
	files := func(data []byte) (text string) {
		r := tar.NewReader(bytes.NewReader(data))
		for {
			h, err := r.Next()
			if err != nil {
				return text
			}
			content, err := io.ReadAll(r)
			if err != nil {
				return text
			}
			if strings.HasSuffix(h.Name, ".minisig") {
				_, content, _ = bytes.Cut(content, []byte("\n")) // the untrusted comment is signed by nobody
			}
			if h.Name != "image.json" {
				text += h.Name + string(manifest.DigestOf(content))
			}
		}
	}
	return files(a) == files(b)
}

// TestHostileBundles: only what a bundle has, in its order, whole.
func TestHostileBundles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	img := s.image("debian")
	bundle, err := s.exported("debian", "bundle")
	if err != nil {
		t.Fatal(err)
	}
	content := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(bundle))
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		content[h.Name], _ = io.ReadAll(r)
	}
	if _, err := s.images.ImageDelete(t.Context(), &operator.ImageDeleteRequest{Image: img.GetDigest()}); err != nil {
		t.Fatal(err)
	}
	pack := func(names ...string) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, name := range names {
			data := content[name]
			h := &tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}
			if name == "link" {
				h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd"
			}
			if err := errors.Join(w.WriteHeader(h), func() error { _, err := w.Write(data); return err }()); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		return out.Bytes()
	}
	content["../../evil"] = []byte("x")
	content["manifest.json.0000000000000001.minisig"] = []byte("no signature")
	for name, data := range map[string][]byte{
		"no frames":          pack("manifest.json", "image.json"),
		"frames first":       pack("frames.zst", "manifest.json"),
		"manifest twice":     pack("manifest.json", "manifest.json", "frames.zst"),
		"frames twice":       pack("manifest.json", "frames.zst", "frames.zst"),
		"a path":             pack("manifest.json", "../../evil", "frames.zst"),
		"a link":             pack("manifest.json", "link", "frames.zst"),
		"a bad signature":    pack("manifest.json", "manifest.json.0000000000000001.minisig", "frames.zst"),
		"cut off":            bundle[:len(bundle)/2],
		"nothing":            nil,
		"no tar":             []byte(strings.Repeat("x", 2048)),
		"empty":              make([]byte, 1024),
		"another's manifest": append(pack("manifest.json")[:512], bytes.Repeat([]byte("x"), 4096)...),
	} {
		_, err := s.imported(&operator.ImageHeader{Name: "debian", Format: "bundle"}, data)
		wantCode(t, name, err, codes.InvalidArgument)
	}
	if list, err := s.images.ImageList(t.Context(), &operator.ImageListRequest{}); err != nil || len(list.GetImages()) != 0 {
		t.Errorf("got %v, %v, want nothing", list, err)
	}
	if _, err := s.imported(&operator.ImageHeader{Name: "debian", Format: "bundle"}, pack("manifest.json", "frames.zst")); err != nil {
		t.Errorf("without facts: %v", err)
	}
	_, err = s.imported(&operator.ImageHeader{Name: "debian", Architecture: "arm64", Format: "bundle"}, bundle)
	wantCode(t, "another architecture", err, codes.InvalidArgument, "amd64")
}
