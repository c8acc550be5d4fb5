package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/ingot-metal/ingot/"

// fileLimit is the most lines that a hand-written file may have.
const fileLimit = 600

type listed struct {
	ImportPath, Dir, Doc      string
	Imports, TestImports      []string
	XTestImports, GoFiles     []string
	TestGoFiles, XTestGoFiles []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles", "-tags=vm", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("go list output: %v", err)
		}
		list = append(list, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// rowOf finds the row that covers a package: its own or the nearest above it.
func rowOf(pkg string) (string, bool) {
	for {
		if _, ok := arrows[pkg]; ok {
			return pkg, true
		}
		i := strings.LastIndexByte(pkg, '/')
		if i < 0 {
			return "", false
		}
		pkg = pkg[:i]
	}
}

func allowed(row, target string) bool {
	if strings.HasPrefix(target+"/", row+"/") {
		return true
	}
	for _, a := range arrows[row] {
		tree, subtree := strings.CutSuffix(a, "/...")
		if a == "*" || a == target || subtree && strings.HasPrefix(target+"/", tree+"/") {
			return true
		}
		if covering, _ := rowOf(target); covering == a {
			return true
		}
	}
	return false
}

func TestArrows(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		row, ok := rowOf(pkg)
		if !ok {
			t.Errorf("%s has no row in arrows.go: which room is it?", pkg)
			continue
		}
		for _, imp := range p.Imports {
			if target, ours := strings.CutPrefix(imp, module); ours && !allowed(row, target) {
				t.Errorf("%s imports %s; its row allows %v", pkg, target, arrows[row])
			}
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			target, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if strings.HasPrefix(pkg, "agent") && strings.HasPrefix(target, "controller") ||
				strings.HasPrefix(pkg, "controller") && strings.HasPrefix(target, "agent") {
				t.Errorf("tests of %s import %s: agent and controller meet only on the wire", pkg, target)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) > 0 && p.Doc == "" && !onlyGenerated(t, p) {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func onlyGenerated(t *testing.T, p listed) bool {
	t.Helper()
	for _, f := range p.GoFiles {
		if !generated(t, filepath.Join(p.Dir, f)) {
			return false
		}
	}
	return true
}

func generated(t *testing.T, path string) bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := bytes.Cut(data, []byte("\npackage "))
	return bytes.Contains(head, []byte("// Code generated ")) && bytes.Contains(head, []byte(" DO NOT EDIT."))
}

func TestFileSizes(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, f := range append(append(append([]string{}, p.GoFiles...), p.TestGoFiles...), p.XTestGoFiles...) {
			path := filepath.Join(p.Dir, f)
			if generated(t, path) {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(data, []byte("\n")); n > fileLimit {
				t.Errorf("%s has %d lines, more than %d: which two ideas does it hold?", path, n, fileLimit)
			}
		}
	}
}
