package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/daemon"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/operator"
)

// documents gives the text of every document, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range append(paths, root+"/README.md", root+"/ARCHITECTURE.md") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	return texts
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
			}
		}
	}
}

var (
	usageFlag = regexp.MustCompile(`(?m)^  -([a-z-]+)`)
	tableFlag = regexp.MustCompile("(?m)^\\| `--([a-z-]+)")
)

// TestFlagsOfIngotd compares the table in INSTALL.md with the flags that there
// are.
func TestFlagsOfIngotd(t *testing.T) {
	t.Parallel()
	var usage bytes.Buffer
	if _, err := daemon.ParseConfig([]string{"--help"}, &usage); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("ask for the flags: %v", err)
	}
	got := words(tableFlag, documents(t)["docs/INSTALL.md"])
	want := words(usageFlag, usage.String())
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("flags in docs/INSTALL.md and of ingotd (- documented, + there):\n%s", diff)
	}
}

func words(pattern *regexp.Regexp, text string) []string {
	var found []string
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var apiPath = regexp.MustCompile("(?:\\$API|`)(/v1/[a-z_/:{}-]*)")

// TestPathsOfAPI finds every path of API.md in the OpenAPI description.
func TestPathsOfAPI(t *testing.T) {
	t.Parallel()
	description := string(operator.OpenAPI())
	paths := words(apiPath, documents(t)["docs/API.md"])
	if len(paths) < 10 {
		t.Fatalf("got %d paths, the pattern is wrong: %q", len(paths), paths)
	}
	for _, p := range paths {
		if strings.HasSuffix(p, "/") || !strings.ContainsAny(p, "{") && strings.Count(p, "/") > 2 {
			continue // an example with a machine's name in it
		}
		if !strings.Contains(description, `"`+p+`"`) {
			t.Errorf("%s is not in the OpenAPI description", p)
		}
	}
}

// TestCommands asks the command line about every command that a document or the
// catalogue of reasons tells people to type.
func TestCommands(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "ingot")
	if out, err := exec.Command("go", "build", "-o", program, root+"/tools/ingot").CombinedOutput(); err != nil {
		t.Fatalf("build the command line: %v\n%s", err, out)
	}
	seen := map[string]string{}
	check := func(where, line string) {
		path, flags := command(line)
		if len(path) == 0 {
			return
		}
		key := strings.Join(path, " ")
		if _, ok := seen[key]; !ok {
			out, err := exec.Command(program, append(slices.Clone(path), "--help")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "\n  ingot "+key) {
				t.Errorf("%s: ingot %s: no such command (%v)", where, key, err)
			}
			seen[key] = string(out)
		}
		for _, f := range flags {
			if !strings.Contains(seen[key], f+" ") {
				t.Errorf("%s: ingot %s has no flag %s", where, key, f)
			}
		}
	}
	for name, text := range documents(t) {
		for _, line := range typed(text) {
			check(name, line)
		}
	}
	for _, c := range machine.Catalogue {
		for _, line := range commandIn.FindAllString(c.Next, -1) {
			check("catalogue, "+string(c.Reason), line)
		}
	}
	if len(seen) < 15 {
		t.Errorf("got %d commands, the patterns are wrong: %v", len(seen), seen)
	}
}

var (
	fence     = regexp.MustCompile("(?s)```sh\n(.*?)```")
	commandIn = regexp.MustCompile(`\bingot [a-z]+ [^;,]*`)
	plainWord = regexp.MustCompile(`^[a-z]+$`)
)

// typed are the lines of ingot in a document's examples.
func typed(text string) []string {
	var lines []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(m[1]) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "bin/")
			if strings.HasPrefix(line, "ingot ") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// command takes a line apart: the words that name the command, and its flags.
func command(line string) (path, flags []string) {
	line, _, _ = strings.Cut(line, " #")
	all := strings.Fields(line)[1:]
	for len(path) < 2 && len(all) > len(path) && plainWord.MatchString(all[len(path)]) {
		path = append(path, all[len(path)])
	}
	for _, w := range all {
		if strings.HasPrefix(w, "--") {
			name, _, _ := strings.Cut(w, "=")
			flags = append(flags, name)
		}
	}
	return path, flags
}
