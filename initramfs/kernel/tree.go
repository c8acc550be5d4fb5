package kernel

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Tree is the set of modules of one kernel.
type Tree struct {
	// Version is the kernel's release as uname -r prints it.
	Version string
	dir     string
	modules map[string]Module
	builtin map[string]string   // name to path, as in modules.builtin
	byAlias map[string][]string // plain aliases (no wildcard) to names
}

// maxModules bounds what Scan reads; Debian's kernel has about 4,000.
const maxModules = 20000

// Scan reads every module below root/lib/modules (or root/usr/lib/modules),
// where exactly one kernel version must stand.
func Scan(root string) (*Tree, error) {
	dir, err := versionDir(root)
	if err != nil {
		return nil, err
	}
	t := &Tree{Version: filepath.Base(dir), dir: dir, modules: map[string]Module{}, byAlias: map[string][]string{}}
	if t.builtin, err = readBuiltin(filepath.Join(dir, "modules.builtin")); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".ko" {
			return err
		}
		return t.scanModule(path)
	})
	if err != nil {
		return nil, fmt.Errorf("read kernel modules below %s: %w", dir, err)
	}
	if len(t.modules) == 0 {
		return nil, fmt.Errorf("no uncompressed kernel modules (.ko) below %s", dir)
	}
	return t, nil
}

func versionDir(root string) (string, error) {
	var dirs []string
	for _, base := range []string{"lib/modules", "usr/lib/modules"} {
		found, err := filepath.Glob(filepath.Join(root, base, "*", "kernel"))
		if err != nil {
			return "", fmt.Errorf("look for kernel modules below %s: %w", root, err)
		}
		dirs = append(dirs, found...)
	}
	if len(dirs) != 1 {
		return "", fmt.Errorf("%d kernel versions below %s/lib/modules, one is needed", len(dirs), root)
	}
	return filepath.Dir(dirs[0]), nil
}

func (t *Tree) scanModule(path string) error {
	if len(t.modules) >= maxModules {
		return fmt.Errorf("more than %d modules", maxModules)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	relative, err := filepath.Rel(t.dir, path)
	if err != nil {
		return err
	}
	m, err := readModule(f, filepath.ToSlash(relative), strings.TrimSuffix(filepath.Base(path), ".ko"))
	if err != nil {
		return fmt.Errorf("module %s: %w", relative, err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m.Size = info.Size()
	t.modules[m.Name] = m
	for _, a := range m.Aliases {
		if !strings.ContainsAny(a, "*?[") {
			t.byAlias[normal(a)] = append(t.byAlias[normal(a)], m.Name)
		}
	}
	return nil
}

// readBuiltin reads modules.builtin; a kernel without one has nothing built in
// that we know of.
func readBuiltin(path string) (map[string]string, error) {
	builtin := map[string]string{}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return builtin, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list of built-in modules: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		p := strings.TrimSpace(lines.Text())
		builtin[normal(strings.TrimSuffix(filepath.Base(p), ".ko"))] = p
	}
	return builtin, lines.Err()
}
