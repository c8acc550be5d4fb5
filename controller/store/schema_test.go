package store_test

import (
	"context"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/store/queries"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

var update = flag.Bool("update", false, "write schema.sql anew")

// All migrations together give the schema on file.
func TestSchemaIsOnFile(t *testing.T) {
	t.Parallel()
	dumps, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	if err != nil || len(dumps) == 0 {
		t.Fatal("this test needs pg_dump: apt install postgresql-client")
	}
	cmd := exec.Command(dumps[len(dumps)-1], "--schema-only", "--no-owner", "--no-privileges", "--exclude-table=goose_db_version*",
		"--dbname="+storetest.Database(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	got := normalise(string(out))
	if *update {
		if err := os.WriteFile("schema.sql", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, string(want)); d != "" {
		t.Errorf("the migrations give another schema than schema.sql (go test -run TestSchemaIsOnFile -update)\ngot - want +\n%s", d)
	}
}

// normalise leaves out what depends on the server's version and on the run.
func normalise(dump string) string {
	var keep []string
	for _, line := range strings.Split(dump, "\n") {
		switch {
		case line == "", strings.HasPrefix(line, "--"), strings.HasPrefix(line, "SET "), strings.HasPrefix(line, "\\"),
			strings.HasPrefix(line, "SELECT pg_catalog.set_config"):
		default:
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n") + "\n"
}

// Every table says what a row is and who writes it.
func TestEveryTableIsExplained(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	var bare []string
	storetest.Row(t, s, `SELECT coalesce(array_agg(relname::text ORDER BY relname), '{}') FROM pg_class
		WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'goose%' AND obj_description(oid, 'pg_class') IS NULL`, nil, &bare)
	if len(bare) > 0 {
		t.Errorf("tables without a comment: %v", bare)
	}
}

// The database can prepare each statement, and each is used.
func TestStatements(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, storetest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	uses := statementUses(t, ".", "storetest")
	for name, sql := range queries.Load() {
		if _, err := conn.Prepare(ctx, name, sql); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if uses[name] == 0 {
			t.Errorf("%s: nobody uses it", name)
		}
	}
	for name := range uses {
		if _, ok := queries.Load()[name]; !ok {
			t.Errorf("%s: is used and does not exist", name)
		}
	}
}

// statementUses counts the words in the Go files that are names of statements:
// arguments of Get, and text that equals a name.
func statementUses(t *testing.T, dirs ...string) map[string]int {
	t.Helper()
	known := queries.Load()
	uses := map[string]int{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && isGet(call) {
					if lit, ok := call.Args[0].(*ast.BasicLit); ok {
						name, _ := strconv.Unquote(lit.Value)
						uses[name]++
					}
				}
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if name, err := strconv.Unquote(lit.Value); err == nil && known[name] != "" {
						uses[name]++
					}
				}
				return true
			})
		}
	}
	return uses
}

func isGet(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Get" || len(call.Args) != 1 {
		return false
	}
	inner, ok := sel.X.(*ast.SelectorExpr)
	return ok && inner.Sel.Name == "sql"
}
