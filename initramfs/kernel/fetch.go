package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Source says where a kernel comes from.
type Source struct {
	// Sources is the content of an apt sources file in deb822 form
	// (sources.list(5)); empty means those of Archive.
	Sources string
	// Package is a kernel package or a meta-package that depends on one; empty
	// means linux-image-amd64.
	Package string
	// MaxAge is how long a kernel in the cache is used without asking the
	// archive for a newer one; zero means always ask.
	MaxAge time.Duration
}

// Package is an unpacked kernel package.
type Package struct {
	// Name and Version as in the archive, for example linux-image-6.1.0-56-amd64.
	Name, Version string
	// Dir holds boot/ and lib/modules/.
	Dir string `json:"-"`
	// Resolved is when the archive was last asked for the newest one.
	Resolved time.Time
	// Wanted is the Source that it was resolved from: a cache made from another
	// one is not used.
	Wanted string
}

func (s Source) wanted() string { return s.Package + "\n" + s.Sources }

const stateFile = "resolved.json"

// Fetch resolves, downloads, verifies and unpacks the kernel into cacheDir, and
// returns where it stands. Only one build may use a cacheDir at a time. now is
// the current time. A kernel in the cache is used again while it is the
// newest; if the archive cannot be reached at all it is used too, and the error
// is handed to warn.
func Fetch(ctx context.Context, cacheDir string, src Source, now time.Time, warn func(error)) (Package, error) {
	cached, err := readState(cacheDir)
	if err != nil {
		return Package{}, err
	}
	if cached.Wanted != src.wanted() {
		cached = Package{}
	}
	if cached.Dir != "" && src.MaxAge > 0 && now.Sub(cached.Resolved) < src.MaxAge {
		return cached, nil
	}
	a := apt{dir: filepath.Join(cacheDir, "apt")}
	name, version, err := a.resolve(ctx, src)
	if err != nil {
		if cached.Dir != "" && ctx.Err() == nil {
			warn(fmt.Errorf("use the cached %s %s: %w", cached.Name, cached.Version, err))
			return cached, nil
		}
		return Package{}, err
	}
	p := Package{Name: name, Version: version, Dir: treeDir(cacheDir, name, version), Resolved: now.UTC(), Wanted: src.wanted()}
	if _, err := os.Stat(p.Dir); err != nil {
		if err := a.unpack(ctx, name, version, p.Dir); err != nil {
			return Package{}, err
		}
	}
	return p, writeState(cacheDir, p)
}

func treeDir(cacheDir, name, version string) string {
	return filepath.Join(cacheDir, name+"_"+strings.ReplaceAll(version, ":", "%3a"))
}

// readState returns a zero Package when the cache holds none.
func readState(cacheDir string) (Package, error) {
	var p Package
	data, err := os.ReadFile(filepath.Join(cacheDir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read kernel cache: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("read %s/%s (remove it to start afresh): %w", cacheDir, stateFile, err)
	}
	dir := treeDir(cacheDir, p.Name, p.Version)
	if _, err := os.Stat(dir); err == nil {
		p.Dir = dir
	}
	return p, nil
}

func writeState(cacheDir string, p Package) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("write kernel cache: %w", err)
	}
	if err := os.WriteFile(filepath.Join(cacheDir, stateFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write kernel cache: %w", err)
	}
	return nil
}

// Image returns the path of the kernel image in the unpacked package.
func (p Package) Image() (string, error) {
	found, err := filepath.Glob(filepath.Join(p.Dir, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d kernel images in %s/boot, one is needed", len(found), p.Dir)
	}
	return found[0], nil
}
