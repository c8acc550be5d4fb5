package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Names of the environment variables that name Debian's archive and its security
// archive, as in http://HOST/debian, where the host's own apt does not know them.
const (
	EnvArchive  = "INGOT_DEBIAN_ARCHIVE"
	EnvSecurity = "INGOT_DEBIAN_SECURITY"
)

const (
	release         = "bookworm"
	securityRelease = release + "-security"
)

// Archive gives apt sources (deb822, sources.list(5)) for Debian 12, checked by
// Debian's keyring. Where it is comes from the environment, else from the apt
// sources of this host, so that its mirror is used and no host is named here.
func Archive(ctx context.Context) (string, error) {
	main, security := os.Getenv(EnvArchive), os.Getenv(EnvSecurity)
	if main == "" || security == "" {
		out, err := exec.CommandContext(ctx, "apt-get", "update", "--print-uris").Output()
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("ask apt for its sources: %w", err)
		}
		known := archives(string(out))
		if main == "" {
			main = known[release]
		}
		if security == "" {
			security = known[securityRelease]
		}
	}
	if main == "" || security == "" {
		return "", fmt.Errorf("apt's sources on this host do not name Debian 12 (%s and %s); name it with %s=http://HOST/debian and %s=http://HOST/debian-security",
			release, securityRelease, EnvArchive, EnvSecurity)
	}
	var b strings.Builder
	for _, a := range [][2]string{{main, release}, {main, release + "-updates"}, {security, securityRelease}} {
		if strings.ContainsAny(a[0], " \t\n") {
			return "", fmt.Errorf("address %q of the archive has white space in it", a[0])
		}
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: amd64\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n", a[0], a[1])
	}
	return b.String(), nil
}

// archives reads what `apt-get update --print-uris` prints and gives the base
// address of each release.
func archives(printed string) map[string]string {
	known := map[string]string{}
	for line := range strings.Lines(printed) {
		uri, _, _ := strings.Cut(strings.TrimPrefix(line, "'"), "'")
		base, rest, found := strings.Cut(uri, "/dists/")
		name, _, slash := strings.Cut(rest, "/")
		if found && slash && known[name] == "" {
			known[name] = base
		}
	}
	return known
}
