package kernel

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Selection is a set of modules closed over what they depend on.
type Selection struct {
	// Version is the kernel's release.
	Version string
	// Modules sorted by path.
	Modules []Module
	// Absent are wanted names that this kernel has neither as a module nor
	// built in, sorted.
	Absent []string
	tree   *Tree
}

// File is one file of the initramfs: a path from the archive's root without a
// leading slash, and either its content or the place on the host to read it from.
type File struct {
	Path    string
	Content []byte
	From    string
}

// Select returns the wanted modules with all they need. A missing dependency is
// an error, a missing wanted name is listed in Absent, since kernels rename and
// merge modules from one version to the next.
func (t *Tree) Select(wanted []string) (*Selection, error) {
	chosen := map[string]bool{}
	s := &Selection{Version: t.Version, tree: t}
	for _, name := range wanted {
		name = normal(name)
		if _, isBuiltin := t.builtin[name]; isBuiltin {
			continue
		}
		if _, ok := t.modules[name]; !ok {
			s.Absent = append(s.Absent, name)
			continue
		}
		if err := t.choose(name, chosen); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
	}
	for name := range chosen {
		s.Modules = append(s.Modules, t.modules[name])
	}
	slices.SortFunc(s.Modules, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(s.Absent)
	s.Absent = slices.Compact(s.Absent)
	return s, nil
}

func (t *Tree) choose(name string, chosen map[string]bool) error {
	if chosen[name] {
		return nil
	}
	chosen[name] = true
	m := t.modules[name]
	for _, d := range m.Depends {
		if _, isBuiltin := t.builtin[d]; isBuiltin {
			continue
		}
		if _, ok := t.modules[d]; !ok {
			return fmt.Errorf("needs %s, which this kernel does not have", d)
		}
		if err := t.choose(d, chosen); err != nil {
			return err
		}
	}
	for _, soft := range m.Soft {
		for _, d := range t.providers(soft) {
			if err := t.choose(d, chosen); err != nil {
				return err
			}
		}
	}
	return nil
}

// providers are the modules that a soft dependency means: the module of that
// name, or those that bear it as an alias. Device drivers that merely offer the
// same cipher in hardware are left out: they are large and coldplug loads
// the generic code first anyway.
func (t *Tree) providers(soft string) []string {
	name := normal(soft)
	if _, ok := t.modules[name]; ok {
		return []string{name}
	}
	var out []string
	for _, p := range t.byAlias[name] {
		if !strings.HasPrefix(t.modules[p].Path, "kernel/drivers/") {
			out = append(out, p)
		}
	}
	return out
}

// Firmware returns the names of all firmware files that the modules may ask
// for, sorted, each once.
func (s *Selection) Firmware() []string {
	names := map[string]bool{}
	for _, m := range s.Modules {
		for _, f := range m.Firmware {
			names[f] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Files returns the modules, unchanged (a stripped module would lose its
// signature, which Secure Boot's lockdown asks for), and the tables about them,
// sorted by path:
//
//	modules.dep      PATH: PATHS it needs, direct ones only
//	modules.alias    alias PATTERN NAME
//	modules.softdep  softdep NAME pre: NAMES
//	modules.builtin  paths of those built into the kernel
//	modules.load     names to load though no device announces them, one a line
func (s *Selection) Files() []File {
	dir := "lib/modules/" + s.Version + "/"
	files := []File{
		{Path: dir + "modules.dep", Content: s.depTable()},
		{Path: dir + "modules.alias", Content: s.aliasTable()},
		{Path: dir + "modules.softdep", Content: s.softTable()},
		{Path: dir + "modules.builtin", Content: s.builtinTable()},
		{Path: dir + "modules.load", Content: s.loadTable()},
	}
	for _, m := range s.Modules {
		files = append(files, File{Path: dir + m.Path, From: filepath.Join(s.tree.dir, filepath.FromSlash(m.Path))})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

func (s *Selection) depTable() []byte {
	var b strings.Builder
	for _, m := range s.Modules {
		b.WriteString(m.Path + ":")
		for _, d := range m.Depends {
			if dep, ok := s.tree.modules[d]; ok {
				b.WriteString(" " + dep.Path)
			}
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

func (s *Selection) aliasTable() []byte {
	var b strings.Builder
	for _, m := range s.Modules {
		for _, a := range m.Aliases {
			// An alias with a blank cannot be written to this table, and no
			// device has one.
			if !strings.ContainsAny(a, " \t\n") {
				fmt.Fprintf(&b, "alias %s %s\n", a, m.Name)
			}
		}
	}
	return []byte(b.String())
}

func (s *Selection) softTable() []byte {
	var b strings.Builder
	for _, m := range s.Modules {
		var pre []string
		for _, soft := range m.Soft {
			pre = append(pre, s.tree.providers(soft)...)
		}
		if len(pre) > 0 {
			fmt.Fprintf(&b, "softdep %s pre: %s\n", m.Name, strings.Join(pre, " "))
		}
	}
	return []byte(b.String())
}

func (s *Selection) builtinTable() []byte {
	return []byte(strings.Join(slices.Sorted(maps.Values(s.tree.builtin)), "\n") + "\n")
}

func (s *Selection) loadTable() []byte {
	var b strings.Builder
	for _, name := range ByName() {
		if slices.ContainsFunc(s.Modules, func(m Module) bool { return m.Name == normal(name) }) {
			b.WriteString(normal(name) + "\n")
		}
	}
	return []byte(b.String())
}
