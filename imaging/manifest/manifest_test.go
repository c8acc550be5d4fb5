package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// example has a hole at its start and a short last frame.
func example() *Manifest {
	h := func(b byte) (hash Hash) {
		for i := range hash {
			hash[i] = b
		}
		return hash
	}
	const fs = 64 << 10
	return &Manifest{
		Version: 1, Kind: KindDisk, Name: `a "b" \c`, Architecture: "amd64",
		SectorSize: 512, SizeBytes: 4*fs + 1024, FrameSizeBytes: fs, PackedSizeBytes: 5000,
		Boot: &Boot{PartitionTable: "gpt", RootPartition: 1, ESPPartition: 15, Kernel: "/boot/vmlinuz",
			Initrds: []string{"/boot/a", "/boot/b"}, Cmdline: "quiet"},
		Frames: []Frame{
			{Zero: true, Size: fs},
			{Zero: true, Size: fs},
			{Size: fs, Offset: 100, PackedSize: 1000, PackedSHA256: h(1), XXH3: 0xab, SHA256: h(2)},
			{Zero: true, Size: fs},
			{Size: 1024, Offset: 1150, PackedSize: 300, PackedSHA256: h(3), XXH3: 1 << 63, SHA256: h(4)},
		},
	}
}

// The canonical bytes are a promise to every image ever made: this string must
// never change while Version is 1.
func TestCanonicalBytesAreFixed(t *testing.T) {
	t.Parallel()
	h := func(d string) string { return strings.Repeat(d, 32) }
	want := `{"version":1,"kind":"disk","name":"a \"b\" \\c","architecture":"amd64","sector_size":512,` +
		`"size_bytes":263168,"frame_size_bytes":65536,"packed_size_bytes":5000,` +
		`"boot":{"partition_table":"gpt","root_partition":1,"esp_partition":15,"kernel":"/boot/vmlinuz","initrds":["/boot/a","/boot/b"],"cmdline":"quiet"},` +
		`"holes":[[0,2],[3,1]],"frames":[[100,1000,"` + h("01") + `","00000000000000ab","` + h("02") + `"],` +
		`[1150,300,"` + h("03") + `","8000000000000000","` + h("04") + `"]]}`
	got, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	digest, err := example().Digest()
	if want := "sha256:" + Sum(got).String(); err != nil || string(digest) != want {
		t.Errorf("got %s, %v; want %s", digest, err, want)
	}
}

func TestParseGivesBackWhatWasEncoded(t *testing.T) {
	t.Parallel()
	bare := example()
	bare.Name, bare.Boot = "", nil
	tree := example()
	tree.Kind, tree.SectorSize, tree.Boot, tree.SizeBytes = KindTree, 0, nil, tree.SizeBytes-3
	tree.Frames[4].Size -= 3
	holes := example()
	holes.SizeBytes, holes.Frames = 1<<17, holes.Frames[:2]
	for name, want := range map[string]*Manifest{"full": example(), "bare": bare, "tree": tree, "only holes": holes} {
		data, err := want.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := ParseVerified(data, DigestOf(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	data, _ := bare.Encode()
	if _, err := ParseVerified(data, DigestOf([]byte("else"))); !errors.Is(err, ErrInvalid) {
		t.Errorf("other digest: got %v, want %v", err, ErrInvalid)
	}
}

func TestParseRefusesOtherSpellings(t *testing.T) {
	t.Parallel()
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	swap := func(old, new string) string {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in the example", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, data := range map[string]string{
		"newline at the end":  string(good) + "\n",
		"two objects":         string(good) + string(good),
		"white space":         swap(`"version":1`, `"version": 1`),
		"unknown field":       swap(`"version":1`, `"version":1,"new":2`),
		"field twice":         swap(`"version":1`, `"version":1,"version":1`),
		"field in other case": swap(`"kind"`, `"Kind"`),
		"other order":         swap(`"version":1,"kind":"disk"`, `"kind":"disk","version":1`),
		"exponent":            swap(`"sector_size":512`, `"sector_size":5.12e2`),
		"upper-case hash":     swap("00000000000000ab", "00000000000000AB"),
		"short hash":          swap("00000000000000ab", "ab"),
		"escaped letter":      swap(`"disk"`, `"d\u0069sk"`),
		"boot null":           swap(`"boot":{`, `"boot":null,"boot":{`),
		"split hole":          swap("[[0,2],[3,1]]", "[[0,1],[1,1],[3,1]]"),
		"overlapping holes":   swap("[[0,2],[3,1]]", "[[0,2],[1,1],[3,1]]"),
		"hole beyond":         swap("[3,1]", "[3,18446744073709551615]"),
		"empty hole":          swap("[3,1]", "[3,1],[4,0]"),
		"one row too few":     swap("[[0,2],[3,1]]", "[[0,2]]"),
		"one row too many":    swap("[[0,2],[3,1]]", "[[0,4]]"),
		"short row":           swap("[100,1000,", "[1000,"),
		"long row":            swap("[100,1000,", "[100,1000,5,"),
		"row null":            swap(`"frames":[`, `"frames":[null,`),
		"negative":            swap("[100,", "[-100,"),
		"version 2":           swap(`"version":1`, `"version":2`),
		"size that overflows": swap(`"size_bytes":263168`, `"size_bytes":18446744073709551104`),
		"nothing":             "",
		"deep nesting":        strings.Repeat("[", 100_000),
	} {
		if _, err := Parse([]byte(data)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
	if _, err := Parse(make([]byte, MaxBytes+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too long: got %v, want %v", err, ErrInvalid)
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(m *Manifest){
		"kind":                   func(m *Manifest) { m.Kind = "iso" },
		"architecture missing":   func(m *Manifest) { m.Architecture = "" },
		"architecture odd":       func(m *Manifest) { m.Architecture = "AMD64" },
		"sector size":            func(m *Manifest) { m.SectorSize = 520 },
		"size and sector":        func(m *Manifest) { m.SectorSize = 4096 },
		"empty":                  func(m *Manifest) { m.SizeBytes, m.Frames = 0, nil },
		"frame size small":       func(m *Manifest) { m.FrameSizeBytes = 4096 },
		"frame size odd":         func(m *Manifest) { m.FrameSizeBytes = 3 << 16 },
		"frame missing":          func(m *Manifest) { m.Frames = m.Frames[:4] },
		"frame of other size":    func(m *Manifest) { m.Frames[2].Size-- },
		"hole with bytes":        func(m *Manifest) { m.Frames[0].PackedSize = 1 },
		"frame without bytes":    func(m *Manifest) { m.Frames[2].PackedSize = 0 },
		"frame too large":        func(m *Manifest) { m.Frames[4].PackedSize = MaxPacked(1024) + 1 },
		"overlap":                func(m *Manifest) { m.Frames[4].Offset = 1099 },
		"beyond the end":         func(m *Manifest) { m.PackedSizeBytes = 1449 },
		"offset wraps":           func(m *Manifest) { m.Frames[4].Offset = 1<<64 - 10 },
		"packed size absurd":     func(m *Manifest) { m.PackedSizeBytes = 1 << 63 },
		"name long":              func(m *Manifest) { m.Name = strings.Repeat("x", 129) },
		"name with newline":      func(m *Manifest) { m.Name = "a\nb" },
		"boot of a tree":         func(m *Manifest) { m.Kind, m.SectorSize = KindTree, 0 },
		"partition table":        func(m *Manifest) { m.Boot.PartitionTable = "bsd" },
		"partition number":       func(m *Manifest) { m.Boot.RootPartition = 2000 },
		"kernel path":            func(m *Manifest) { m.Boot.Kernel = "vmlinuz" },
		"path upwards":           func(m *Manifest) { m.Boot.ESPLoader = "/EFI/../../x" },
		"initrd empty":           func(m *Manifest) { m.Boot.Initrds = []string{""} },
		"initrds many":           func(m *Manifest) { m.Boot.Initrds = strings.Split(strings.Repeat("/a ", 9), " ") },
		"cmdline long":           func(m *Manifest) { m.Boot.Cmdline = strings.Repeat("x", 2049) },
		"too many frames":        func(m *Manifest) { m.SizeBytes = 1 << 40 },
		"version":                func(m *Manifest) { m.Version = 0 },
		"cmdline with non-ASCII": func(m *Manifest) { m.Boot.Cmdline = "ä" },
	} {
		m := example()
		change(m)
		if err := m.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
		if _, err := m.Encode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Encode gives %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestParseDigest(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0a", 32)
	for _, s := range []string{hex, "sha256:" + hex} {
		if got, err := ParseDigest(s); err != nil || got != Digest("sha256:"+hex) || got.Hex() != hex {
			t.Errorf("%s: got %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256:", hex[1:], hex + "0", "sha512:" + hex, strings.ToUpper(hex), "sha256:sha256:" + hex, strings.Repeat("../", 21) + "x"} {
		if got, err := ParseDigest(s); !errors.Is(err, ErrDigest) {
			t.Errorf("%q: got %s, %v; want %v", s, got, err, ErrDigest)
		}
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	m := example()
	for _, tc := range []struct {
		name   string
		frames []int
		limit  RunLimits
		runs   []Run
	}{
		{"together over a small gap", m.DataFrames(), RunLimits{Bytes: 4096, Gap: 50, Frames: 2}, []Run{{100, 1350, []int{2, 4}}}},
		{"gap too large", m.DataFrames(), RunLimits{Bytes: 4096, Gap: 49}, []Run{{100, 1000, []int{2}}, {1150, 300, []int{4}}}},
		{"too long together", m.DataFrames(), RunLimits{Bytes: 1349, Gap: 50}, []Run{{100, 1000, []int{2}}, {1150, 300, []int{4}}}},
		{"too many", m.DataFrames(), RunLimits{Bytes: 4096, Gap: 50, Frames: 1}, []Run{{100, 1000, []int{2}}, {1150, 300, []int{4}}}},
		{"a frame alone may exceed", m.DataFrames(), RunLimits{Bytes: 1, Gap: 50}, []Run{{100, 1000, []int{2}}, {1150, 300, []int{4}}}},
		{"one wanted", []int{4}, RunLimits{Bytes: 4096, Gap: 50}, []Run{{1150, 300, []int{4}}}},
		{"none wanted", nil, RunLimits{Bytes: 4096, Gap: 50}, nil},
	} {
		if diff := cmp.Diff(tc.runs, m.Runs(tc.frames, tc.limit)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.name, diff)
		}
	}
	if got, want := fmt.Sprint(m.DataBytes(), m.FetchBytes(), m.FrameOffset(4)), "66560 1300 262144"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIsHole(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 4095, 4096, 4097, 100_000} {
		b := make([]byte, n)
		if !IsHole(b) {
			t.Errorf("%d zeros: got false", n)
		}
		for _, at := range []int{0, n / 2, n - 1} {
			if n > 0 {
				b[at] = 1
				if IsHole(b) {
					t.Errorf("%d bytes, one at %d set: got true", n, at)
				}
				b[at] = 0
			}
		}
	}
}

// Whatever Parse accepts is the canonical form of what it gives.
func FuzzParse(f *testing.F) {
	for _, change := range []func(*Manifest){func(*Manifest) {}, func(m *Manifest) { m.Boot = nil }, func(m *Manifest) { m.Name = "" }} {
		m := example()
		change(m)
		data, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, ErrInvalid)
			}
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("encodes to %q (%v)", again, err)
		}
	})
}
