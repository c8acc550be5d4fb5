package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-metal/ingot/initramfs/kernel"
)

// Packages returns a tar archive of the named packages of Debian 12 (.deb
// files), downloading them into cacheDir first if they are not there.
func (c cache) packages(ctx context.Context, names []string) (string, error) {
	key, err := sourceKey(names, "packages.go")
	if err != nil {
		return "", err
	}
	return c.get(ctx, "packages", key, ".tar", func(ctx context.Context, r runner, workDir, path string) error {
		options, err := aptState(ctx, workDir)
		if err != nil {
			return fmt.Errorf("make apt's state: %w", err)
		}
		if err := r.run(ctx, "", "apt-get", append(options, "update", "-q", "--error-on=any")...); err != nil {
			return fmt.Errorf("refresh package lists: %w", err)
		}
		debs := filepath.Join(workDir, "debs")
		if err := os.Mkdir(debs, 0o755); err != nil {
			return err
		}
		// apt-get download writes into the directory it is started in.
		script := `cd "$1"; shift; exec apt-get "$@"`
		args := append(append([]string{"-c", script, "sh", debs}, options...), "download", "-q")
		if err := r.run(ctx, "", "sh", append(args, names...)...); err != nil {
			return fmt.Errorf("download packages: %w", err)
		}
		return r.run(ctx, "", "tar", "-C", debs, "-cf", path, ".")
	})
}

// aptState gives the options that keep apt away from what the host has
// installed; the indexes are checked against Debian's keyring.
func aptState(ctx context.Context, workDir string) ([]string, error) {
	dir, err := filepath.Abs(filepath.Join(workDir, "apt"))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	sources, err := kernel.Archive(ctx)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{"status": "", "archive.sources": sources} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	var options []string
	for _, o := range []string{
		"Dir::State=" + dir + "/state", "Dir::Cache=" + dir + "/cache", "Dir::State::status=" + dir + "/status",
		"Dir::Etc::sourcelist=" + dir + "/archive.sources", "Dir::Etc::sourceparts=-",
		"APT::Architecture=amd64", "APT::Architectures=amd64", "APT::Sandbox::User=",
		"Acquire::Languages=none", "Acquire::Retries=3",
	} {
		options = append(options, "-o", o)
	}
	return options, nil
}

// fill unpacks packages over the tree.
func (c cache) fill(ctx context.Context, r runner, tree, workDir string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	archive, err := c.packages(ctx, names)
	if err != nil {
		return err
	}
	return unpackPackages(ctx, r, archive, workDir, tree)
}

// unpackPackages is dpkg-deb -x for each, but a directory that is a link in the
// tree (/lib) stays one.
func unpackPackages(ctx context.Context, r runner, archive, workDir, tree string) error {
	dir, err := os.MkdirTemp(workDir, "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.run(ctx, "", "tar", "-C", dir, "-xf", archive); err != nil {
		return fmt.Errorf("unpack packages: %w", err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		script := `dpkg-deb --fsys-tarfile "$1" | tar -C "$2" --keep-directory-symlink -xpf -`
		if err := r.runOwned(ctx, "bash", "-o", "pipefail", "-c", script, "sh", deb, tree); err != nil {
			return fmt.Errorf("unpack %s: %w", strings.TrimSuffix(filepath.Base(deb), ".deb"), err)
		}
	}
	return nil
}
