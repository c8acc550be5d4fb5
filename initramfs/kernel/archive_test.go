package kernel

import (
	"strings"
	"testing"
)

func TestArchives(t *testing.T) {
	t.Parallel()
	got := archives(`'http://mirror.example/debian/dists/bookworm/InRelease' x 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' x 0
'https://security.example/s/dists/bookworm-security/InRelease' x 0
'http://other.example/dists/bookworm/main/binary-amd64/Packages.xz' x 0
nonsense
`)
	for name, want := range map[string]string{"bookworm": "http://mirror.example/debian", "bookworm-security": "https://security.example/s", "noble": ""} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

func TestArchiveFromTheEnvironment(t *testing.T) {
	t.Setenv(EnvArchive, "http://mirror.example/debian")
	t.Setenv(EnvSecurity, "http://mirror.example/debian-security")
	got, err := Archive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got, "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"); n != 3 {
		t.Errorf("%d signed sources, want 3:\n%s", n, got)
	}
	t.Setenv(EnvArchive, "http://a b")
	if _, err := Archive(t.Context()); err == nil {
		t.Error("an address with white space was taken")
	}
}
