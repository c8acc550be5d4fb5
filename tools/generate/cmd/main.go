// Command generate remakes the code that comes from the proto files. Run it
// from the root of the repository; `make generate` does.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/tools/generate"
)

func main() {
	root, err := os.Getwd()
	if err == nil {
		err = generate.Run(context.Background(), root, filepath.Join(root, "build", "generators"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
