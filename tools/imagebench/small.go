package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/vmtest/image"
)

// smallImages stand for the real ones where a quick run shall show that the
// tool works: pieces of this program's own file with holes between them.
func smallImages(_ context.Context, dir string, wanted []string, _ *slog.Logger) ([]*subject, []string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(program)
	var subjects []*subject
	for name, gap := range map[string]int64{"sparse": 7 << 20, "dense": 0} {
		if !contains(wanted, name) {
			continue
		}
		base := filepath.Join(dir, fmt.Sprintf("small-%s-%x", name, sum[:6])) // inputs are kept by name
		s := &subject{name: name, raw: base + ".raw", sectorSize: 512, next: map[image.Next]string{
			image.Used: base + "-used.raw", image.Neighbour: base + "-neighbour.raw", image.Rebuilt: base + "-rebuilt.raw",
		}}
		subjects = append(subjects, s)
		for path, from := range map[string]int{s.raw: 0, s.next[image.Used]: 100, s.next[image.Neighbour]: 4096, s.next[image.Rebuilt]: 333} {
			if err := scatter(path, program, from, gap); err != nil {
				return nil, nil, fmt.Errorf("make small image: %w", err)
			}
		}
	}
	return subjects, nil, nil
}

// scatter writes eight pieces of 1 MiB with gaps between them; the last of them
// starts at another place of the source when from is another.
func scatter(path string, source []byte, from int, gap int64) error {
	const piece, pieces = 1 << 20, 8
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate((piece+gap)*pieces + 512); err != nil {
		return err
	}
	for i := range int64(pieces) {
		start := i * piece % int64(len(source)-2*piece)
		if i == pieces-1 {
			start += int64(from)
		}
		if _, err := f.WriteAt(source[start:][:piece], i*(piece+gap)); err != nil {
			return err
		}
	}
	return f.Close()
}
