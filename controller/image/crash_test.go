package image

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ingot-metal/ingot/imaging/pack"
)

// crashDir tells a child of this test where to import and to hang.
const crashDir = "INGOT_TEST_CRASH_DIR"

// A controller that is killed in the middle of an import has nothing of it in
// service, and removes what is left when it starts again.
func TestKilledImportLeavesNothing(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		importUntilKilled(t, dir)
		return
	}
	for _, format := range []pack.Format{pack.Raw, pack.QCOW2} { // packed on the way; kept first
		dir := t.TempDir()
		child := exec.Command(os.Args[0], "-test.run=^TestKilledImportLeavesNothing$")
		child.Env = append(os.Environ(), crashDir+"="+dir, "INGOT_TEST_CRASH_FORMAT="+string(format))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, 1)
		if _, err := io.ReadFull(out, ready); err != nil {
			t.Fatalf("child: %v", err)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.Wait() // it was killed
		left, err := filepath.Glob(filepath.Join(dir, partialPrefix+"*"))
		if err != nil || len(left) != 1 {
			t.Fatalf("%s: the child left %v, want one partial import (%v)", format, left, err)
		}
		s := open(t, dir)
		if images, err := s.List(t.Context()); err != nil || len(images) != 0 {
			t.Errorf("%s: in service: %v, %v; want nothing", format, images, err)
		}
		if got := visible(t, dir); len(got) != 0 {
			t.Errorf("%s: left after opening: %v", format, got)
		}
		img := mustImport(t, s, sample(3<<20))
		if got := visible(t, dir); !slices.Equal(got, []string{img.Digest.Hex()}) {
			t.Errorf("%s: then in the store: %v", format, got)
		}
	}
}

// importUntilKilled says when frames are on the disk, and gives no more.
func importUntilKilled(t *testing.T, dir string) {
	given := io.MultiReader(bytes.NewReader(sample(20<<20)), readerFunc(func([]byte) (int, error) {
		os.Stdout.Write([]byte("r"))
		select {}
	}))
	req := rawRequest
	req.Format = pack.Format(os.Getenv("INGOT_TEST_CRASH_FORMAT"))
	_, err := open(t, dir).Import(t.Context(), Source{Reader: given}, req)
	t.Errorf("import ended: %v", err)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
