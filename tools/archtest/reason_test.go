package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

// TestAgentReasonsAreInTheCatalogue: agent and controller share no code, so the
// codes that an agent sends are compared here with those that have a sentence.
func TestAgentReasonsAreInTheCatalogue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(root(t), "agent", "job", "reason.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			for _, v := range spec.(*ast.ValueSpec).Values {
				lit, ok := v.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				code, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if codes++; !machine.Known(machine.Reason(code)) {
					t.Errorf("the agent sends %q, which has no row in controller/machine's catalogue", code)
				}
			}
		}
	}
	if codes == 0 {
		t.Errorf("%s holds no codes", path)
	}
}
