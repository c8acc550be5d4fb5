package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/vmtest/image"
)

// fill is what makes the dense image dense: files of large packages, some of
// them already compressed, as on real systems.
var fill = []string{
	"golang-1.19-go", "golang-1.19-src", "firefox-esr", "openjdk-17-jre-headless", "openjdk-17-jdk-headless",
	"libreoffice-core", "libreoffice-common", "libllvm14", "libstd-rust-dev", "fonts-noto-cjk",
	"gcc-12", "g++-12", "postgresql-15", "mariadb-server-core", "git", "linux-source-6.1", "libboost1.74-dev",
}

// flavours are the images of the benchmark. The sparse one is what clouds give
// out: 8 GiB, nearly all of it free.
var flavours = []image.Flavour{
	{Name: "sparse", SizeMiB: 8192, SectorSize: 512},
	{Name: "dense", SizeMiB: 2816, SectorSize: 512, Fill: fill},
	{Name: "4kn", SizeMiB: 4096, SectorSize: 4096},
}

// debianImages makes the images, or finds them made, and what became of those
// that are deployed again. Without root the latter are left out, with a note.
func debianImages(ctx context.Context, dir string, wanted []string, log *slog.Logger) ([]*subject, []string, error) {
	cache := filepath.Join(dir, "images")
	var subjects []*subject
	var notes []string
	for _, f := range flavours {
		if !contains(wanted, f.Name) {
			continue
		}
		raw, err := image.Debian(ctx, cache, f, log)
		if err != nil {
			return nil, nil, fmt.Errorf("make image %s: %w", f.Name, err)
		}
		s := &subject{name: f.Name, raw: raw, sectorSize: int(f.SectorSize), next: map[image.Next]string{}}
		subjects = append(subjects, s)
		if f.Name == "4kn" {
			continue
		}
		for _, next := range []image.Next{image.Used, image.Neighbour, image.Rebuilt} {
			path, err := image.DebianNext(ctx, cache, f, next, log)
			if err != nil {
				notes = append(notes, fmt.Sprintf("%s: no row for the %s image: %v", f.Name, next, err))
				continue
			}
			s.next[next] = path
		}
	}
	if len(wanted) == 0 {
		return subjects, notes, dropOldImages(cache, subjects)
	}
	return subjects, notes, nil
}

// dropOldImages removes what was made by other versions of package image: a
// set takes 12 GiB.
func dropOldImages(cache string, subjects []*subject) error {
	keep := map[string]bool{}
	for _, s := range subjects {
		keep[s.raw] = true
		for _, path := range s.next {
			keep[path] = true
		}
	}
	raws, err := filepath.Glob(filepath.Join(cache, "*.raw"))
	if err != nil {
		return err
	}
	for _, path := range raws {
		if !keep[path] {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
