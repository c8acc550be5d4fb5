package api_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/proto/operator"
)

func TestImport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := bytes.Repeat([]byte("ingot\x00\x00\x00"), 3<<17) // 3 MiB
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(disk)
	z.Close()
	sum := sha256.Sum256(packed.Bytes())
	right := hex.EncodeToString(sum[:])
	good := &operator.ImageHeader{Name: "debian", Version: "12", Architecture: "amd64", Format: "raw.gz", SourceSha256: right, SourceSizeBytes: uint64(packed.Len()), KexecForbidden: true}
	for _, tc := range []struct {
		name string
		h    *operator.ImageHeader
		data []byte
	}{
		{"no name", &operator.ImageHeader{Architecture: "amd64", Format: "raw"}, disk},
		{"newline in name", &operator.ImageHeader{Name: "a\n", Architecture: "amd64", Format: "raw"}, disk},
		{"digest as name", &operator.ImageHeader{Name: right, Architecture: "amd64", Format: "raw"}, disk},
		{"architecture", &operator.ImageHeader{Name: "a", Architecture: "vax", Format: "raw"}, disk},
		{"format", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "vmdk"}, disk},
		{"another format", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "qcow2"}, disk},
		{"hash", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "raw", SourceSha256: right}, disk},
		{"hash of gzip", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "raw.gz", SourceSha256: right}, append(bytes.Clone(packed.Bytes()), 0)},
		{"size", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "raw", SourceSizeBytes: 7 << 20}, disk},
		{"cut", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "raw.gz"}, packed.Bytes()[:packed.Len()/2]},
		{"nothing", &operator.ImageHeader{Name: "a", Architecture: "amd64", Format: "raw"}, nil},
	} {
		_, err := s.imported(tc.h, tc.data)
		wantRefusal(t, tc.name, err, codes.InvalidArgument)
		if text := err.Error(); strings.Contains(text, "\n") || strings.Count(text, "EOF") > 1 {
			t.Errorf("%s: %q says a thing twice", tc.name, text)
		}
	}
	if list, err := s.images.ImageList(t.Context(), &operator.ImageListRequest{}); err != nil || len(list.GetImages()) != 0 {
		t.Errorf("refused imports left %v, %v", list, err)
	}
	img, err := s.imported(good, packed.Bytes())
	if err != nil || img.GetSizeBytes() != uint64(len(disk)) || img.GetKexec() || img.GetVersion() != "12" {
		t.Fatalf("%v, %v", img, err)
	}
	s.ready(1)
	_, err = s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: "m1", Image: "debian", Kexec: "always"})
	wantRefusal(t, "kexec into an image that forbids it", err, codes.FailedPrecondition, "kexec")
	if _, err := s.images.ImageDelete(t.Context(), &operator.ImageDeleteRequest{Image: "debian"}); err != nil {
		t.Fatal(err)
	}
	_, err = s.images.ImageGet(t.Context(), &operator.ImageGetRequest{Image: "debian"})
	wantRefusal(t, "a deleted image", err, codes.NotFound, "ingot image list")
}
