package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
)

// loader loads modules by name or by alias, from the tables that
// initramfs/kernel writes beside them. It may be used from several goroutines.
type loader struct {
	prober  *kmodule.Prober
	known   map[string]bool     // names of modules that exist
	aliases map[string][]alias  // by what stands before the first colon
	soft    map[string][]string // name to names to load before it
	named   []string            // to be loaded by name

	mu    sync.Mutex
	tried map[string]bool // aliases and names
	ok    int
}

type alias struct{ pattern, module string }

type loaderOptions struct {
	root    string
	version string            // empty: that of the running kernel
	dryRun  func(path string) // tests: called instead of loading
}

// errNoModule means that no module of ours serves the name.
var errNoModule = errors.New("no module for it")

func newLoader(o loaderOptions) (*loader, error) {
	if o.version == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, fmt.Errorf("ask for the kernel's version: %w", err)
		}
		o.version = unix.ByteSliceToString(u.Release[:])
	}
	prober, err := kmodule.NewProber(kmodule.ProbeOpts{RootDir: o.root, KVer: o.version, DryRunCB: o.dryRun, IgnoreProcMods: o.dryRun != nil})
	if err != nil {
		return nil, fmt.Errorf("read modules.dep of %s: %w", o.version, err)
	}
	l := &loader{prober: prober, known: map[string]bool{}, aliases: map[string][]alias{}, soft: map[string][]string{}, tried: map[string]bool{}}
	dir := filepath.Join(o.root, "lib/modules", o.version)
	return l, errors.Join(
		eachLine(filepath.Join(dir, "modules.dep"), l.addModule),
		eachLine(filepath.Join(dir, "modules.alias"), l.addAlias),
		eachLine(filepath.Join(dir, "modules.softdep"), l.addSoft),
		eachLine(filepath.Join(dir, "modules.load"), l.addNamed),
	)
}

func eachLine(path string, use func(fields []string)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read module table: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			use(fields)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read module table %s: %w", path, err)
	}
	return nil
}

func (l *loader) addModule(f []string) {
	l.known[normal(strings.TrimSuffix(filepath.Base(f[0]), ".ko:"))] = true
}

func (l *loader) addAlias(f []string) {
	if len(f) == 3 && f[0] == "alias" {
		family := family(f[1])
		l.aliases[family] = append(l.aliases[family], alias{f[1], f[2]})
	}
}

func (l *loader) addSoft(f []string) {
	if len(f) > 3 && f[0] == "softdep" && f[2] == "pre:" {
		l.soft[f[1]] = f[3:]
	}
}

func (l *loader) addNamed(f []string) { l.named = append(l.named, f[0]) }

// load loads the module of that name or, if there is none, all modules that
// have the alias. It returns an error if none could be loaded. A name that was
// tried before is not tried again.
func (l *loader) load(name string) error {
	if !l.claim(name) {
		return nil
	}
	if l.known[normal(name)] {
		return l.loadModule(normal(name))
	}
	var errs []error
	loaded := false
	for _, module := range l.matches(name) {
		if !l.claim(module) {
			loaded = true
		} else if err := l.loadModule(module); err != nil {
			errs = append(errs, err)
		} else {
			loaded = true
		}
	}
	if loaded {
		return nil
	}
	if len(errs) == 0 {
		return errNoModule
	}
	return errors.Join(errs...)
}

// loadModule loads a module after those it would like to have before it.
func (l *loader) loadModule(module string) error {
	for _, s := range l.soft[module] {
		if l.claim(s) {
			// One that does not fit this processor says so and is not missed.
			_ = l.loadModule(s)
		}
	}
	if err := l.prober.Probe(module, ""); err != nil {
		return fmt.Errorf("module %s: %w", module, err)
	}
	l.mu.Lock()
	l.ok++
	l.mu.Unlock()
	return nil
}

// matches returns the modules for a device id or an alias, each once.
func (l *loader) matches(name string) []string {
	var out []string
	for _, a := range l.aliases[family(name)] {
		if !slices.Contains(out, a.module) && (match(a.pattern, name) || normal(a.pattern) == normal(name)) {
			out = append(out, a.module)
		}
	}
	return out
}

// claim marks a name as tried and says whether it was new.
func (l *loader) claim(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tried[name] {
		return false
	}
	l.tried[name] = true
	return true
}

// count is how many modules were loaded by name or alias, without what those
// depend on.
func (l *loader) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ok
}

// loadNamed loads the modules that no device announces.
func (l *loader) loadNamed(log *slog.Logger) {
	for _, name := range l.named {
		if err := l.load(name); err != nil {
			log.Debug("module not loaded", "module", name, "err", err)
		}
	}
}

// family is the kind of a device id: pci, usb, acpi …; empty for plain names.
func family(name string) string {
	before, _, found := strings.Cut(name, ":")
	if !found {
		return ""
	}
	return before
}

func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }
