package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/controller/machine"
)

const root = "../.."

func TestLifecycleIsFresh(t *testing.T) {
	t.Parallel()
	got, err := os.ReadFile(root + "/" + file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(render(machine.Table, machine.Catalogue))
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is stale: go run ./tools/statedoc (- on disk, + drawn)\n%s", file, diff)
	}
}

func TestRenderIsWhole(t *testing.T) {
	t.Parallel()
	got := string(render(machine.Table, machine.Catalogue))
	for _, r := range machine.Table {
		if !strings.Contains(got, "| `"+string(r.State)+"` |") {
			t.Errorf("state %s has no row", r.State)
		}
		for _, next := range r.Next {
			if next != machine.Broken && !strings.Contains(got, "    "+string(r.State)+" --> "+string(next)) {
				t.Errorf("the move %s to %s is not drawn", r.State, next)
			}
		}
	}
	for _, c := range machine.Catalogue {
		if !strings.Contains(got, "| `"+string(c.Reason)+"` |") {
			t.Errorf("reason %s has no row", c.Reason)
		}
	}
}

func TestRenderSmall(t *testing.T) {
	t.Parallel()
	table := []machine.Rule{
		{State: "one", Sentence: "First | of two.", Next: []machine.State{"two", machine.Broken}, Accepts: []machine.OperationKind{"b", "a"}},
		{State: "two", Passing: true, Limit: 90 * 60e9, TimeoutReason: "late", CancelTo: "one", Next: []machine.State{"one"}},
	}
	got := string(render(table, []machine.Cause{{Reason: "late", Sentence: "Too late.", Next: "Again."}}))
	for _, want := range []string{
		"    [*] --> one\n    one --> two\n    two --> one: cancelled\n",
		"to `broken`, which may follow one.",
		`| First \| of two. | a, b | nothing |`,
		"| `two` | 90 min | `late` | rests in `one` |",
		"| `late` | Too late. | Again. |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got no %q in\n%s", want, got)
		}
	}
}
