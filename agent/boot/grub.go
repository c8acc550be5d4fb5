package boot

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// grub reads a GRUB configuration: menu entries with their Linux commands, the
// default entry, variables, simple conditions. Commands that only prepare
// drivers, fonts or colours are passed over, as are functions. Conditions that
// cannot be known here (files, commands) count as false.
type grub struct {
	mount, dir string
	vars       map[string]string
	menu       menuItem // the whole menu, as a submenu
	open       []block  // blocks around the current command
	pending    *block   // a block whose brace is still to come
	conditions []condition
	entries    int
	depth      int // of source and configfile
	included   int // scripts read by them
	expanded   int // bytes of all words so far
	// wantsEntries: the script says blscfg, so that the menu is made of boot
	// loader entries.
	wantsEntries bool
}

// maxScript bounds what all scripts together come to, in bytes: a few lines can
// ask for gigabytes by repeating a long variable.
const maxScript = 16 << 20

type menuItem struct {
	title, id string
	system    System
	items     []*menuItem
}

// block is something in braces; item is nil within a function.
type block struct{ item *menuItem }

// condition is one if: whether a branch was taken already, and whether the
// current one is.
type condition struct{ done, active bool }

func newGRUB(mount, dir string) *grub {
	g := &grub{mount: mount, dir: dir, vars: map[string]string{"prefix": dir, "config_directory": dir, "grub_cpu": "x86_64", "feature_menuentry_id": "y"}}
	if env, err := readIn(mount, path.Join(dir, "grubenv")); err == nil {
		g.loadEnv(string(env))
	}
	return g
}

// loadEnv reads an environment block: KEY=VALUE lines after a comment, padded
// with #.
func (g *grub) loadEnv(env string) {
	for line := range strings.SplitSeq(env, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(k, "#") {
			g.vars[k] = v
		}
	}
}

func (g *grub) read(script string) error {
	for _, line := range grubCommands(script) {
		var words []string
		for _, w := range line {
			words = append(words, expand(w, g.vars))
			if g.expanded += len(words[len(words)-1]); g.expanded > maxScript {
				return fmt.Errorf("scripts have more than %d bytes with their variables put in", maxScript)
			}
		}
		if err := g.command(words); err != nil {
			return err
		}
	}
	return nil
}

// command carries out one command.
func (g *grub) command(words []string) error {
	if g.brace(words) {
		return nil
	}
	if handled, err := g.control(words); handled {
		return err
	}
	if !g.active() {
		// Entries in a branch not taken must keep their braces in step.
		if words[0] == "menuentry" || words[0] == "submenu" || words[0] == "function" {
			g.pending = &block{}
		}
		return nil
	}
	switch words[0] {
	case "menuentry", "submenu":
		return g.startItem(words)
	case "function":
		g.pending = &block{}
	case "set":
		for _, w := range words[1:] {
			if k, v, ok := strings.Cut(w, "="); ok && g.current() == &g.menu {
				g.vars[k] = v
			}
		}
	case "blscfg":
		g.wantsEntries = true
	case "source", "configfile", ".":
		return g.include(words)
	case "linux", "linux16", "linuxefi", "initrd", "initrd16", "initrdefi":
		g.load(words)
	}
	return nil
}

// brace handles { and }.
func (g *grub) brace(words []string) bool {
	if len(words) != 1 {
		return false
	}
	switch words[0] {
	case "{":
		if g.pending == nil {
			g.pending = &block{item: g.current()}
		}
		g.open = append(g.open, *g.pending)
		g.pending = nil
		return true
	case "}":
		if len(g.open) > 0 {
			g.open = g.open[:len(g.open)-1]
		}
		return true
	}
	return false
}

// control handles if, elif, else, then and fi. A command may follow then or else
// on its line.
func (g *grub) control(words []string) (handled bool, err error) {
	last := len(g.conditions) - 1
	switch words[0] {
	case "if":
		yes := evaluate(words[1:])
		g.conditions = append(g.conditions, condition{done: yes, active: yes})
		return true, nil
	case "elif", "else", "fi", "then":
	default:
		return false, nil
	}
	if last < 0 {
		return true, nil
	}
	c := &g.conditions[last]
	switch words[0] {
	case "elif":
		c.active = !c.done && evaluate(words[1:])
		c.done = c.done || c.active
	case "else":
		c.active = !c.done
		c.done = true
	case "fi":
		g.conditions = g.conditions[:last]
		return true, nil
	}
	if words[0] == "elif" || len(words) == 1 {
		return true, nil
	}
	if words[1] == "then" || words[1] == "else" {
		return true, fmt.Errorf("%q stands right behind %q", words[1], words[0]) // a million of them would be as deep a recursion
	}
	return true, g.command(words[1:])
}

// evaluate knows [ A ], [ -n A ], [ -z A ], [ A = B ], [ A != B ].
func evaluate(words []string) bool {
	if len(words) < 3 || words[0] != "[" || words[len(words)-1] != "]" {
		return false
	}
	words = words[1 : len(words)-1]
	switch {
	case len(words) == 1:
		return words[0] != ""
	case len(words) == 2 && words[0] == "-n":
		return words[1] != ""
	case len(words) == 2 && words[0] == "-z":
		return words[1] == ""
	case len(words) == 3 && (words[1] == "=" || words[1] == "=="):
		return words[0] == words[2]
	case len(words) == 3 && words[1] == "!=":
		return words[0] != words[2]
	}
	return false
}

func (g *grub) active() bool {
	return !slices.ContainsFunc(g.conditions, func(c condition) bool { return !c.active }) && g.current() != nil
}

// current is the entry or menu that commands belong to; nil within a function.
func (g *grub) current() *menuItem {
	if len(g.open) == 0 {
		return &g.menu
	}
	return g.open[len(g.open)-1].item
}

// startItem begins a menu entry: menuentry TITLE [--class C] [--id ID] {. Debian
// writes the option's name as a variable that the script sets.
func (g *grub) startItem(words []string) error {
	if g.entries++; g.entries > maxEntries {
		return fmt.Errorf("more than %d menu entries", maxEntries)
	}
	item := &menuItem{}
	if len(words) > 1 {
		item.title = words[1]
		item.system.Title = words[1]
	}
	for i := 2; i < len(words); i++ {
		if id, ok := strings.CutPrefix(words[i], "--id="); ok {
			item.id = id
		} else if words[i] == "--id" && i+1 < len(words) {
			item.id = words[i+1]
		}
	}
	g.pending = &block{item: item}
	parent := g.current()
	parent.items = append(parent.items, item)
	return nil
}

func (g *grub) load(words []string) {
	s := &g.current().system
	if len(words) < 2 {
		return
	}
	if strings.HasPrefix(words[0], "linux") {
		// Any initrd has to come after its kernel again.
		s.Kernel, s.Initrds = stripDevice(words[1]), nil
		s.Args = joinArgs(words[2:])
		return
	}
	for _, w := range words[1:] {
		s.Initrds = append(s.Initrds, stripDevice(w))
	}
}

// joinArgs writes a command line as GRUB does (grub-core/lib/cmdline.c): words
// with blanks go into quotes.
func joinArgs(words []string) string {
	var out []string
	for _, w := range words {
		if w == "" {
			continue // an empty variable
		}
		if strings.Contains(w, " ") {
			w = `"` + w + `"`
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// stripDevice takes (hd0,gpt2) or ($root) away: paths are looked for on the
// filesystems that we were given.
func stripDevice(file string) string {
	if strings.HasPrefix(file, "(") {
		if _, after, found := strings.Cut(file, ")"); found {
			return after
		}
	}
	return file
}

// include reads another script of the same filesystem, if it is there.
func (g *grub) include(words []string) error {
	const maxDepth, maxIncluded = 4, 64
	if len(words) < 2 {
		return nil
	}
	if g.depth == maxDepth {
		return fmt.Errorf("scripts include each other more than %d deep", maxDepth)
	}
	if g.included++; g.included > maxIncluded {
		return fmt.Errorf("more than %d scripts are included", maxIncluded)
	}
	data, err := readIn(g.mount, stripDevice(words[1]))
	if err != nil {
		return nil // as GRUB, which says so and goes on
	}
	g.depth++
	defer func() { g.depth-- }()
	return g.read(string(data))
}

// choose returns the entry that GRUB would start by itself: variable default,
// an index, title or id, with > between the levels of submenus.
func (g *grub) choose() (System, error) {
	wanted := g.vars["default"]
	if wanted == "" {
		wanted = "0"
	}
	item := &g.menu
	for part := range strings.SplitSeq(wanted, ">") {
		if next := item.find(part); next != nil {
			item = next
		}
	}
	// What cannot be found, and a submenu, mean the first entry in it.
	for len(item.items) > 0 && item.system.Kernel == "" {
		item = item.items[0]
	}
	if err := item.system.check(); err != nil {
		return System{}, err
	}
	return item.system, nil
}

func (m *menuItem) find(name string) *menuItem {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < len(m.items) {
		return m.items[n]
	}
	for _, item := range m.items {
		if item.id == name || item.title == name {
			return item
		}
	}
	return nil
}
