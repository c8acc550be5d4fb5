package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFirmware bounds one blob, in bytes; the largest for NICs is about 8 MB.
const maxFirmware = 64 << 20

// FindFirmware looks for the named blobs in a directory laid out like
// /lib/firmware. It returns the files to pack, and the names that are not there.
// A name may be a pattern (some drivers write one), and a blob may be compressed
// with xz, which the kernel opens itself; other compressions it does not know.
// An empty dir means that nothing is there.
func FindFirmware(dir string, names []string) (found []File, missing []string, err error) {
	seen := map[string]bool{}
	for _, name := range names {
		if !filepath.IsLocal(name) || strings.ContainsRune(name, '\\') {
			return nil, nil, fmt.Errorf("firmware name %q leads outside its directory", name)
		}
		paths, err := findBlob(dir, name)
		if err != nil {
			return nil, nil, err
		}
		if len(paths) == 0 {
			missing = append(missing, name)
		}
		for _, p := range paths {
			if !seen[p] {
				seen[p] = true
				found = append(found, File{Path: "lib/firmware/" + p, From: filepath.Join(dir, p)})
			}
		}
	}
	slices.SortFunc(found, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return found, missing, nil
}

// findBlob returns the paths, relative to dir, of the files a name stands for.
func findBlob(dir, name string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	for _, suffix := range []string{"", ".xz"} {
		matches, err := filepath.Glob(filepath.Join(dir, name+suffix))
		if err != nil {
			return nil, fmt.Errorf("firmware name %q: %w", name, err)
		}
		var out []string
		for _, m := range matches {
			info, err := os.Stat(m)
			if err != nil {
				return nil, fmt.Errorf("firmware %s: %w", name, err)
			}
			if info.Size() > maxFirmware {
				return nil, fmt.Errorf("firmware %s has %d bytes, more than %d", name, info.Size(), maxFirmware)
			}
			relative, err := filepath.Rel(dir, m)
			if err != nil {
				return nil, fmt.Errorf("firmware %s: %w", name, err)
			}
			if info.Mode().IsRegular() {
				out = append(out, filepath.ToSlash(relative))
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, nil
}
