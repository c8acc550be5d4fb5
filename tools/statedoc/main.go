// Statedoc draws docs/LIFECYCLE.md from the table of states and the catalogue
// of reasons in controller/machine, so that the picture cannot lie.
//
//	go run ./tools/statedoc          # from the root of the repository
//
// Its tests fail when the file is stale, and when a document names a flag, a
// command, a path of the API or a file that is not there.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/controller/machine"
)

// file is what is drawn, from the root of the repository.
const file = "docs/LIFECYCLE.md"

func main() {
	text := render(machine.Table, machine.Catalogue)
	if err := os.WriteFile(filepath.FromSlash(file), text, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "statedoc: run it from the root of the repository:", err)
		os.Exit(1)
	}
}
