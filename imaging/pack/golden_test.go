package pack

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// newGolden makes a golden image of a name that there is none of yet. Those that
// are committed are never made again: every release has to read them.
var newGolden = flag.Bool("new-golden", false, "make golden images that do not exist yet")

// golden are tiny images of version 1, by what they show.
func golden(t testing.TB) map[string]struct {
	content []byte
	options Options
} {
	small := gptContent(t)
	large := make([]byte, 3<<20+4096)
	scatter(large[1<<20+5:1<<20+3000], 3)
	type image = struct {
		content []byte
		options Options
	}
	return map[string]image{
		// Frames of 64 KiB, a GPT, all of the boot part, a short last frame, text
		// with characters that are escaped.
		"gpt": {small, Options{Format: Raw, Architecture: "amd64", Name: `golden "disk" \ 1`, FrameSize: 64 << 10, Boot: &manifest.Boot{
			ESPLoader: "/EFI/BOOT/BOOTX64.EFI", Kernel: "/boot/vmlinuz", Initrds: []string{"/boot/a.img", "/boot/b.img"}, Cmdline: `root=LABEL=root quiet "x"`,
		}}},
		// Sectors of 4096, the usual frame size, no name, nothing known of booting.
		"plain": {large, Options{Format: Raw, Architecture: "arm64", SectorSize: 4096}},
		// Nothing but a hole.
		"hole": {make([]byte, 512), Options{Format: Raw, Architecture: "riscv64", FrameSize: 64 << 10}},
	}
}

// gptContent is a disk of some 330 KiB with a table, data that does not compress
// and holes. Its GUIDs are random, so it is kept in testdata, compressed.
func gptContent(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join("testdata", "gpt-disk.raw.xz")
	if _, err := os.Stat(path); err != nil && *newGolden {
		disk := sfdisk(t, 330<<10/512*512, "label: gpt\nfirst-lba: 34\n2: start=34, size=100, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n1: start=134, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n")
		rng := rand.New(rand.NewPCG(6, 6))
		for i := range disk[200<<10 : 300<<10] {
			disk[200<<10+i] = byte(rng.Uint32())
		}
		if err := os.WriteFile(path, run(t, disk, "xz", "-9c"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, packed, "xz", "-dc")
}

func TestGoldenImagesAreRead(t *testing.T) {
	t.Parallel()
	for name, tc := range golden(t) {
		dir := filepath.Join("testdata", "golden", name)
		if _, err := os.Stat(dir); err != nil && *newGolden {
			result, err := Pack(t.Context(), input(tc.content), dir, tc.options)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "digest"), []byte(result.Digest+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		named, err := os.ReadFile(filepath.Join(dir, "digest"))
		if err != nil {
			t.Fatal(err)
		}
		digest := manifest.Digest(strings.TrimSpace(string(named)))
		data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.ParseVerified(data, digest)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: written again it is %q (%v)", name, again, err)
		}
		result := &Result{Manifest: m, Digest: digest}
		checkContent(t, dir, result, tc.content)
		packed := packedBytes(t, dir)
		if err := Verify(t.Context(), bytes.NewReader(packed), m, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := exported(t, packed, result, Raw); !bytes.Equal(got, tc.content) {
			t.Errorf("%s: exported it differs", name)
		}
		checkBySpec(t, dir, digest, tc.content)
	}
}

// The signature of a golden image is checked by minisign itself.
func TestGoldenSignatureIsMinisigns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "golden", "gpt")
	run(t, nil, "minisign", "-Vm", filepath.Join(dir, ManifestFile), "-p", filepath.Join("testdata", "golden.pub"))
}

// checkBySpec reads an image by the reader that was written from the
// specification, with stock zstd.
func checkBySpec(t *testing.T, dir string, digest manifest.Digest, want []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "content")
	run(t, nil, "/usr/bin/python3", "testdata/read_image.py", string(digest), dir, out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: the specification's reader gives %d bytes, want %d (%v)", dir, len(got), len(want), err)
	}
}

func TestSpecReadsWhatWePack(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20+512*100, 512)
	dir, result := mustPack(t, input(disk), rawOptions)
	checkBySpec(t, dir, result.Digest, disk)
}

// Both readers judge the same about each changed manifest.
func TestSpecAndParseAgree(t *testing.T) {
	t.Parallel()
	var all [][]byte
	for name := range golden(t) {
		data, err := os.ReadFile(filepath.Join("testdata", "golden", name, ManifestFile))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data, append(slices.Clone(data), ' '))
		for i := range len(data) {
			for _, c := range []byte(`0 9",{a[`) {
				changed := slices.Clone(data)
				changed[i] = c
				all = append(all, changed)
			}
			all = append(all, slices.Delete(slices.Clone(data), i, i+1), slices.Insert(slices.Clone(data), i, data[i]))
		}
		for _, swap := range [][2]string{
			{`"version":1`, `"version":2`}, {`"version":1`, `"version":1.0`}, {`"version":1`, `"version":1,"version":1`}, {`"kind":"disk"`, `"kind":"tree"`},
			{`"holes":`, `"more":1,"holes":`}, {`,"holes":`, `,"boot":{},"holes":`}, {`"kernel"`, `"Kernel"`}, {`"/boot/a.img"`, `"/boot/../a.img"`}, {`amd64`, `am\u0064`},
			{`"sector_size":512`, `"sector_size":4096`}, {`"size_bytes":`, `"size_bytes":-`}, {`"root_partition":1`, `"root_partition":1025`}, {`"root_partition":1,`, ``},
		} {
			all = append(all, bytes.Replace(data, []byte(swap[0]), []byte(swap[1]), 1))
		}
	}
	lines := strings.Split(strings.TrimSuffix(string(run(t, append(bytes.Join(all, []byte("\n")), '\n'), "/usr/bin/python3", "testdata/read_image.py", "--manifests")), "\n"), "\n")
	if len(lines) != len(all) {
		t.Fatalf("%d verdicts about %d manifests", len(lines), len(all))
	}
	good := 0
	for i, data := range all {
		_, err := manifest.Parse(data)
		if (err == nil) != (lines[i] == "ok") {
			t.Errorf("Parse says %v, the specification's reader %q, of\n%s", err, lines[i], data)
		}
		if err == nil {
			good++
		}
	}
	if good == 0 || good == len(all) {
		t.Errorf("%d of %d manifests are good", good, len(all))
	}
}

// The same content gives the same image, whatever its form, the number of
// workers and the luck of their order.
func TestPackingIsDeterministic(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 12<<20, 512)
	noise(disk[6<<20 : 9<<20])
	first, want := mustPack(t, input(disk), rawOptions)
	for _, workers := range []int{1, 7} {
		o := rawOptions
		o.Workers = workers
		for _, in := range []Input{input(disk), {Reader: bytes.NewReader(disk)}, sparseFile(t, disk)} {
			dir, got := mustPack(t, in, o)
			if got.Digest != want.Digest || !bytes.Equal(packedBytes(t, dir), packedBytes(t, first)) {
				t.Errorf("%d workers: digest %s, want %s", workers, got.Digest, want.Digest)
			}
		}
	}
}

// sparseFile has holes where the disk has zeros.
func sparseFile(t testing.TB, disk []byte) Input {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for at := 0; at < len(disk); at += 4096 {
		if block := disk[at:min(at+4096, len(disk))]; !manifest.IsHole(block) {
			if _, err := f.WriteAt(block, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(disk))); err != nil {
		t.Fatal(err)
	}
	in, err := FileInput(f)
	if err != nil {
		t.Fatal(err)
	}
	return in
}
