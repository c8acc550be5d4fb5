package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// findEntry chooses among the boot loader entries of all filesystems
// (UAPI.1 Boot Loader Specification, type 1). vars are GRUB's variables when it
// was GRUB that asked for entries, else nil.
func findEntry(filesystems []string, vars map[string]string) (System, error) {
	found := map[string]System{}
	pattern := vars["saved_entry"]
	for _, mount := range filesystems {
		for _, dir := range []string{"/loader", "/boot/loader"} {
			if data, err := readIn(mount, dir+"/loader.conf"); err == nil && pattern == "" {
				pattern = strings.Join(entryFields(string(data))["default"], "")
			}
			if err := readEntries(mount, dir+"/entries", vars, found); err != nil {
				return System{}, err
			}
		}
	}
	if len(found) == 0 {
		return System{}, ErrNoConfig
	}
	var ids []string
	for id := range found {
		ids = append(ids, id)
	}
	// Newest first, which is how loaders order them.
	slices.SortFunc(ids, func(a, b string) int { return compareVersions(b, a) })
	chosen := ids[0]
	for _, id := range slices.Backward(ids) {
		if ok, err := path.Match(pattern, id); pattern != "" && err == nil && (ok || pattern == id+".conf") {
			chosen = id
		}
	}
	s := found[chosen]
	return s, s.check()
}

// readEntries reads the .conf files of one directory.
func readEntries(mount, dir string, vars map[string]string, found map[string]System) error {
	names, err := listIn(mount, dir)
	if err != nil {
		return nil // no such directory here
	}
	for _, name := range names {
		id, isEntry := strings.CutSuffix(name, ".conf")
		if _, known := found[id]; !isEntry || known {
			continue
		}
		if len(found) == maxEntries {
			return fmt.Errorf("more than %d boot loader entries", maxEntries)
		}
		data, err := readIn(mount, path.Join(dir, name))
		if err != nil {
			return fmt.Errorf("read boot loader entry %s: %w", name, err)
		}
		if s := entrySystem(entryFields(string(data)), vars); s.Kernel != "" {
			s.From = path.Join(dir, name)
			found[id] = s
		}
	}
	return nil
}

func listIn(mount, dir string) ([]string, error) {
	root, err := os.OpenRoot(mount)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	d, err := openAt(root, dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

// entryFields reads "KEY VALUE" lines; a key may come several times.
func entryFields(text string) map[string][]string {
	fields := map[string][]string{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if i := strings.IndexAny(line, " \t"); i > 0 && line[0] != '#' {
			fields[line[:i]] = append(fields[line[:i]], strings.TrimSpace(line[i:]))
		}
	}
	return fields
}

func entrySystem(fields map[string][]string, vars map[string]string) System {
	s := System{Title: strings.Join(fields["title"], " ")}
	if linux := fields["linux"]; len(linux) > 0 {
		s.Kernel = linux[0]
	}
	for _, line := range fields["initrd"] {
		if len(s.Initrds) > maxInitrds {
			break // check refuses it
		}
		for _, name := range strings.Fields(expand(line, vars)) {
			s.Initrds = append(s.Initrds, stripDevice(name))
		}
	}
	s.Args = strings.Join(strings.Fields(expand(strings.Join(fields["options"], " "), vars)), " ")
	return s
}

// compareVersions compares runs of digits as numbers and the rest as text.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restA := run(a)
		y, restB := run(b)
		order := cmp.Compare(x, y)
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			order = cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
		}
		if order != 0 {
			return order
		}
		a, b = restA, restB
	}
	return cmp.Compare(len(a), len(b))
}

// run cuts the leading run of digits, or of other characters.
func run(s string) (head, rest string) {
	n := 1
	for n < len(s) && isDigit(s[n]) == isDigit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
