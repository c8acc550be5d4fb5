package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// apt is a private apt state: its own sources, lists and cache, so that it works
// without root and neither reads nor changes what the host has installed. The
// host's apt.conf.d still applies, for its proxies.
type apt struct{ dir string }

const (
	defaultPackage = "linux-image-amd64"
	aptTimeout     = 10 * time.Minute
)

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{1,127}$`)
	kernelName  = regexp.MustCompile(`^linux-image-[0-9][a-z0-9.+-]{1,100}$`)
)

// resolve refreshes the lists and returns the real kernel package and the
// version that apt would install. Every index is checked against the keyring
// that the sources name; an unsigned archive is an error.
func (a apt) resolve(ctx context.Context, src Source) (name, version string, err error) {
	if src.Package == "" {
		src.Package = defaultPackage
	}
	if !packageName.MatchString(src.Package) {
		return "", "", fmt.Errorf("kernel package name %.40q is malformed", src.Package)
	}
	if err := a.prepare(ctx, src); err != nil {
		return "", "", err
	}
	if _, err := a.run(ctx, "", "apt-get", "update", "-q", "--error-on=any"); err != nil {
		return "", "", fmt.Errorf("refresh package lists: %w", err)
	}
	name = src.Package
	if !kernelName.MatchString(name) {
		if name, err = a.dependency(ctx, name); err != nil {
			return "", "", err
		}
	}
	out, err := a.run(ctx, "", "apt-cache", "policy", name)
	if err != nil {
		return "", "", fmt.Errorf("ask for the version of %s: %w", name, err)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if v, found := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); found && v != "(none)" {
			return name, v, nil
		}
	}
	return "", "", fmt.Errorf("the archive has no version of %s", name)
}

// dependency returns the kernel that a meta-package depends on.
func (a apt) dependency(ctx context.Context, meta string) (string, error) {
	out, err := a.run(ctx, "", "apt-cache", "depends", "--important", meta)
	if err != nil {
		return "", fmt.Errorf("ask what %s depends on: %w", meta, err)
	}
	for line := range strings.SplitSeq(out, "\n") {
		d, found := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if found && kernelName.MatchString(d) {
			return d, nil
		}
	}
	return "", fmt.Errorf("package %s depends on no kernel", meta)
}

// unpack downloads the package and unpacks it into dir, which appears only when
// it is complete.
func (a apt) unpack(ctx context.Context, name, version, dir string) error {
	work, err := os.MkdirTemp(a.dir, "download-")
	if err != nil {
		return fmt.Errorf("download %s: %w", name, err)
	}
	defer os.RemoveAll(work)
	if _, err := a.run(ctx, work, "apt-get", "download", "-q", name+"="+version); err != nil {
		return fmt.Errorf("download %s %s: %w", name, version, err)
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download %s: got %d packages, want one", name, len(debs))
	}
	tree := filepath.Join(work, "tree")
	if _, err := a.run(ctx, work, "dpkg-deb", "-x", debs[0], tree); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	if err := os.Rename(tree, dir); err != nil {
		return fmt.Errorf("keep unpacked %s: %w", name, err)
	}
	return nil
}

func (a apt) prepare(ctx context.Context, src Source) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return fmt.Errorf("make apt state: %w", err)
		}
	}
	sources := src.Sources
	if sources == "" {
		var err error
		if sources, err = Archive(ctx); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{"status": "", "archive.sources": sources} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("make apt state: %w", err)
		}
	}
	return nil
}

// run executes one of apt's programs against the private state and returns what
// it printed.
func (a apt) run(ctx context.Context, workDir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return "", err
	}
	if program != "dpkg-deb" {
		args = append([]string{
			"-o", "Dir::State=" + dir + "/state", "-o", "Dir::Cache=" + dir + "/cache",
			"-o", "Dir::State::status=" + dir + "/status",
			"-o", "Dir::Etc::sourcelist=" + dir + "/archive.sources", "-o", "Dir::Etc::sourceparts=-",
			"-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
			"-o", "Acquire::Languages=none", "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
			"-o", "APT::Get::AllowUnauthenticated=false", "-o", "Acquire::AllowInsecureRepositories=false",
			"-o", "Acquire::Retries=3",
		}, args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = workDir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("%w: the kernel is fetched with Debian's own tools, so build on Debian or Ubuntu, or install the packages apt and dpkg", err)
		}
		return "", fmt.Errorf("%s: %w: %s", program, err, tail(stderr.String()))
	}
	return stdout.String(), nil
}

// tail keeps the end of a program's complaint.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 600 {
		s = "…" + s[len(s)-600:]
	}
	return strings.ReplaceAll(s, "\n", "; ")
}
