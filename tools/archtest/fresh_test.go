package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/tools/generate"
)

// TestGeneratedCodeIsFresh compares the hash of the generators' inputs with the
// one that stood when the code was made.
func TestGeneratedCodeIsFresh(t *testing.T) {
	t.Parallel()
	got, err := generate.InputHash(root(t))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(root(t), generate.HashFile))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(saved)); got != want {
		t.Errorf("proto files changed since the code was generated (%s, recorded %s): run make generate", got, want)
	}
}
