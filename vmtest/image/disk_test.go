package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/initramfs/kernel"
)

func TestPartitions(t *testing.T) {
	t.Parallel()
	d := disk{sizeMiB: 128, espMiB: 16}
	bios, esp, root := d.partitions()
	got := [3]partition{bios, esp, root}
	want := [3]partition{{2048, 2048}, {4096, 16 * 2048}, {18 * 2048, 109 * 2048}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(partition{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(d.sfdiskInput()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, typeRoot) || !strings.HasSuffix(last, `name="root"`) {
		t.Errorf("last partition: got %s, want the root", last)
	}
	if d.sfdiskInput() == d.sfdiskInput() {
		t.Error("two builds have the same partition UUIDs")
	}
}

func TestCopyIntoKeepsHoles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	data := make([]byte, 300<<10)
	copy(data[200<<10:], "something")
	if err := os.WriteFile(from, data, 0o644); err != nil {
		t.Fatal(err)
	}
	before := bytes.Repeat([]byte{1}, 1<<20)
	if err := os.WriteFile(to, before, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := copyInto(to, 512<<10, from); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	want := before
	copy(want[(512+192)<<10:], data[192<<10:256<<10]) // the one block of 64 KiB that is not zero
	if !bytes.Equal(got, want) {
		t.Error("more or less than the block with data was written")
	}
}

func TestLoadOrder(t *testing.T) {
	t.Parallel()
	modules := []kernel.Module{
		{Name: "a", Depends: []string{"c", "builtin"}},
		{Name: "b", Soft: []string{"a"}},
		{Name: "c", Depends: []string{"d"}},
		{Name: "d"},
	}
	var got []string
	for _, m := range loadOrder(modules) {
		got = append(got, m.Name)
	}
	if diff := cmp.Diff([]string{"d", "c", "a", "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckToolsNamesPackages(t *testing.T) {
	t.Parallel()
	err := checkTools(tool{"sh", "dash"}, tool{"no-such-program", "pkg-b"}, tool{"/no/such/file", "pkg-a"}, tool{"no-such-either", "pkg-b"})
	if err == nil || !strings.HasSuffix(err.Error(), "apt-get install pkg-a pkg-b") {
		t.Errorf("got %v, want the two packages, each once", err)
	}
}

func TestSourceKeyFollowsInputs(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, inputs := range [][]string{nil, {""}, {"a"}, {"a", ""}, {"", "a"}} {
		key, err := sourceKey(inputs)
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
	}
	if got, want := len(keys), 5; got != want {
		t.Errorf("got %d keys, want %d", got, want)
	}
}
