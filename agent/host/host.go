// Package host is the agent's view of the machine it runs on: /sys, /proc and
// /dev below a root, so that tests can put a saved tree in their place, and the
// only way by which the agent runs programs.
//
// What hardware and firmware put into these files is hostile input: every read
// is bounded.
package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// MaxFile is how much ReadFile reads at most, in bytes.
	MaxFile = 1 << 20
	// MaxEntries is how many names ReadDir and Glob return at most.
	MaxEntries = 65536
)

// ErrTooLarge is wrapped by errors about files, directories and outputs that go
// over their limit.
var ErrTooLarge = errors.New("larger than the limit")

// Host is a machine seen through a file tree. Its methods may be called in
// parallel. The zero Host is the real machine.
type Host struct {
	root string
	run  Runner
}

// New returns the host whose file tree starts at root; "/" or "" is the real
// machine. Programs run on the real machine whatever the root; tests that need
// none of that use WithRunner.
func New(root string) Host {
	if root == "/" {
		root = ""
	}
	return Host{root: root}
}

// Path returns where the absolute path lies in the real file system. It never
// leads above the root, whatever ".." the path holds; links are not looked at.
func (h Host) Path(path string) string {
	return filepath.Join("/", h.root, filepath.Clean("/"+path))
}

// ReadFile returns the content of a file of at most MaxFile bytes. Errors wrap
// those of os.ReadFile, or ErrTooLarge.
func (h Host) ReadFile(path string) ([]byte, error) { return h.ReadFileMax(path, MaxFile) }

// ReadFileMax is ReadFile with another limit in bytes, for tables of firmware.
func (h Host) ReadFileMax(path string, limit int64) ([]byte, error) {
	f, err := os.Open(h.Path(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w of %d bytes", path, ErrTooLarge, limit)
	}
	return data, nil
}

// ReadString returns the content of an attribute file without blanks and zero
// bytes at its ends.
func (h Host) ReadString(path string) (string, error) {
	data, err := h.ReadFile(path)
	return strings.Trim(string(data), " \t\r\n\x00"), err
}

// WriteFile writes to an existing file, as one asks of sysfs and proc. It
// creates none.
func (h Host) WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(h.Path(path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// ReadLink returns the target of a link as it is written.
func (h Host) ReadLink(path string) (string, error) { return os.Readlink(h.Path(path)) }

// Exists says whether the path leads to something.
func (h Host) Exists(path string) bool {
	_, err := os.Stat(h.Path(path))
	return err == nil
}

// ReadDir returns the sorted names in a directory, at most MaxEntries.
func (h Host) ReadDir(path string) ([]string, error) {
	d, err := os.Open(h.Path(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(MaxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > MaxEntries {
		return nil, fmt.Errorf("list %s: %w of %d entries", path, ErrTooLarge, MaxEntries)
	}
	slices.Sort(names)
	return names, nil
}

// Glob returns the sorted absolute paths (without the root) that fit the pattern
// of filepath.Match. A directory that cannot be read counts as empty.
func (h Host) Glob(pattern string) ([]string, error) {
	found, err := filepath.Glob(globEscape(h.Path("/")) + "/" + strings.TrimPrefix(filepath.Clean("/"+pattern), "/"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", pattern, err)
	}
	if len(found) > MaxEntries {
		return nil, fmt.Errorf("list %s: %w of %d entries", pattern, ErrTooLarge, MaxEntries)
	}
	for i, f := range found {
		relative, err := filepath.Rel(h.Path("/"), f)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", pattern, err)
		}
		found[i] = "/" + relative
	}
	return found, nil
}

// globEscape makes a literal path of a root that a test may have named oddly.
func globEscape(path string) string {
	if path == "/" {
		return ""
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// IsAbsent says whether an error only means that the file is not there, which is
// how sysfs tells that hardware lacks something.
func IsAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Real says whether this is the machine the process runs on, and not a saved
// tree: only then do its names fit what the kernel answers by other ways than
// files.
func (h Host) Real() bool { return h.root == "" }
