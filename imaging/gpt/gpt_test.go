package gpt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a Disk that can lose power after some writes, each of which then
// counts only once it was flushed or not at all.
type memory struct {
	data    []byte
	pending []func()
	budget  int // writes until the power goes; -1: never
}

var errPower = errors.New("power cut")

func newMemory(size int64) *memory { return &memory{data: make([]byte, size), budget: -1} }

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.data[off:]), nil }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.budget == 0 {
		return 0, errPower
	}
	m.budget--
	held := bytes.Clone(p)
	m.pending = append(m.pending, func() { copy(m.data[off:], held) })
	if m.budget < 0 {
		return len(p), m.Flush()
	}
	return len(p), nil
}

func (m *memory) Flush() error {
	for _, apply := range m.pending {
		apply()
	}
	m.pending = nil
	return nil
}

// image is a disk as Debian's cloud images have it: the root is partition 1
// and lies last, behind 14 and 15.
func image(t testing.TB, size int64, sectorSize int) *memory {
	t.Helper()
	m := newMemory(size)
	copy(m.data, "boot code")
	table, err := New(size, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	mib := uint64(1<<20) / uint64(sectorSize)
	for _, p := range []Partition{
		{Number: 1, Type: TypeRootAMD64, FirstLBA: 3 * mib, LastLBA: table.LastUsableLBA, Name: "root"},
		{Number: 14, Type: TypeBIOSBoot, FirstLBA: 1 * mib, LastLBA: 2*mib - 1},
		{Number: 15, Type: TypeESP, FirstLBA: 2 * mib, LastLBA: 3*mib - 1, Name: "EFI System", Attributes: 1},
	} {
		p.ID = NewGUID()
		table.Partitions = append(table.Partitions, p)
	}
	if err := table.Write(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *memory) grown(size int64) *memory {
	return &memory{data: append(bytes.Clone(m.data), make([]byte, size-int64(len(m.data)))...), budget: -1}
}

var seed = Seed{Name: "cidata", SizeBytes: 8 << 20}

// sfdisk is the judge of whether others can read what we write.
func TestSfdiskAgrees(t *testing.T) {
	t.Parallel()
	const diskSize = 64 << 20
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, diskSize), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "label: gpt\nsize=2M, type=U\nsize=20M, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=\"Wurzel √\"\n"
	cmd := exec.Command("/usr/sbin/sfdisk", "--quiet", path)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const larger = 300 << 20
	if err := f.Truncate(larger); err != nil {
		t.Fatal(err)
	}
	table, err := Detect(f, larger)
	if err != nil {
		t.Fatal(err)
	}
	root, ok := table.Root()
	if esp, espOK := table.ESP(); !ok || root.Name != "Wurzel √" || !espOK || esp.Number != 1 {
		t.Errorf("got root %+v, ESP %+v", root, esp)
	}
	root, placed, err := table.Fit(larger, seed, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Write(fileDisk{f}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/sbin/sfdisk", "--verify", path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("No errors detected")) {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
	out, err := exec.Command("/usr/sbin/sfdisk", "--json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	type part struct {
		Start, Size      uint64
		Type, UUID, Name string
	}
	var dump struct {
		Partitiontable struct {
			Partitions []part
		}
	}
	if err := json.Unmarshal(out, &dump); err != nil {
		t.Fatal(err)
	}
	var want []part
	for _, p := range []Partition{table.Partitions[0], root, placed} {
		want = append(want, part{p.FirstLBA, p.Sectors(), strings.ToUpper(p.Type.String()), strings.ToUpper(p.ID.String()), p.Name})
	}
	if diff := cmp.Diff(want, dump.Partitiontable.Partitions); diff != "" {
		t.Errorf("sfdisk sees other partitions, -want +got:\n%s", diff)
	}
}

type fileDisk struct{ *os.File }

func (f fileDisk) Flush() error { return f.Sync() }

func TestReadNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	edit := func(change func(d []byte)) []byte {
		m := image(t, size, 512)
		change(m.data)
		return m.data
	}
	reseal := func(d []byte) { // makes a changed primary header valid again
		h := d[512:1024]
		clear(h[16:20])
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	}
	noBackup := func(d []byte) { clear(d[size-512:]) }
	le := binary.LittleEndian
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"zeros":              {make([]byte, size), ErrNoTable},
		"tiny":               {make([]byte, 512), ErrNoTable},
		"cut":                {image(t, size, 512).data[:size/2], ErrTruncated},
		"both headers gone":  {edit(func(d []byte) { clear(d[512:1024]); noBackup(d) }), ErrCorrupt},
		"both damaged":       {edit(func(d []byte) { d[600] ^= 1; d[size-500] ^= 1 }), ErrCorrupt},
		"entries damaged":    {edit(func(d []byte) { d[1024] ^= 1; noBackup(d) }), ErrCorrupt},
		"a million entries":  {edit(func(d []byte) { le.PutUint32(d[512+80:], 1<<20); reseal(d); noBackup(d) }), ErrCorrupt},
		"entries of 3 bytes": {edit(func(d []byte) { le.PutUint32(d[512+84:], 3); reseal(d); noBackup(d) }), ErrCorrupt},
		"entries far away":   {edit(func(d []byte) { le.PutUint64(d[512+72:], 1<<60); reseal(d); noBackup(d) }), ErrCorrupt},
		"usable reversed":    {edit(func(d []byte) { le.PutUint64(d[512+40:], 1<<60); reseal(d); noBackup(d) }), ErrCorrupt},
		"header of 4 GiB":    {edit(func(d []byte) { le.PutUint32(d[512+12:], 1<<32-1); reseal(d); noBackup(d) }), ErrCorrupt},
	} {
		if _, err := Detect(bytes.NewReader(tc.data), int64(len(tc.data))); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestMBRIsReadAndNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sfdisk", "--quiet", path)
	cmd.Stdin = strings.NewReader("label: dos\nsize=2M, type=ef\nsize=2M, type=82\nsize=8M, type=83, bootable\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(data)
	if _, err := Detect(r, int64(len(data))); !errors.Is(err, ErrMBR) {
		t.Errorf("Detect: got %v, want %v", err, ErrMBR)
	}
	mbr, err := ReadMBR(r)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := mbr.Root()
	esp, _ := mbr.ESP()
	if root.Number != 3 || !root.Active || root.Sectors != 8<<11 || esp.Number != 1 {
		t.Errorf("got root %+v, ESP %+v", root, esp)
	}
	if _, err := ReadMBR(image(t, 32<<20, 512)); !errors.Is(err, ErrNoTable) {
		t.Errorf("protective: got %v, want %v", err, ErrNoTable)
	}
}

func TestAddGrowDelete(t *testing.T) {
	t.Parallel()
	table, err := New(64<<20, 4096)
	if err != nil {
		t.Fatal(err)
	}
	a, err := table.Add(Partition{Type: TypeLinuxData, Name: "a", FirstLBA: 256, LastLBA: 511})
	if err != nil || a.Number != 1 || a.ID.IsZero() {
		t.Fatalf("got %+v, %v", a, err)
	}
	if _, err := table.Add(Partition{Type: TypeLinuxData, FirstLBA: 511, LastLBA: 600}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("overlap: got %v, want %v", err, ErrNoRoom)
	}
	if _, err := table.Add(Partition{Type: TypeLinuxData, FirstLBA: 600, LastLBA: 1 << 40}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("beyond: got %v, want %v", err, ErrNoRoom)
	}
	if _, err := table.Add(Partition{Type: TypeLinuxData, FirstLBA: 600, LastLBA: 700, Name: strings.Repeat("n", 37)}); err == nil {
		t.Error("long name: got no error")
	}
	b, err := table.Add(Partition{Type: TypeLinuxData, Name: "b", FirstLBA: 1024, LastLBA: 2047})
	if err != nil || b.Number != 2 {
		t.Fatalf("got %+v, %v", b, err)
	}
	if err := table.Grow(1, 1024); !errors.Is(err, ErrNoRoom) {
		t.Errorf("grow into the next: got %v, want %v", err, ErrNoRoom)
	}
	if err := table.Grow(1, 300); !errors.Is(err, ErrNoRoom) {
		t.Errorf("shrink: got %v, want %v", err, ErrNoRoom)
	}
	if err := table.Grow(1, 1023); err != nil {
		t.Error(err)
	}
	if !table.Delete("b") || table.Delete("b") || len(table.Partitions) != 1 {
		t.Errorf("after delete: %+v", table.Partitions)
	}
	for i := range 127 {
		if _, err := table.Add(Partition{Type: TypeLinuxData, FirstLBA: uint64(2048 + i), LastLBA: uint64(2048 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.Add(Partition{Type: TypeLinuxData, FirstLBA: 4000, LastLBA: 4001}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("129th: got %v, want %v", err, ErrNoRoom)
	}
}

func TestGUID(t *testing.T) {
	t.Parallel()
	const s = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g, err := ParseGUID(strings.ToUpper(s))
	if err != nil || g.String() != s || g[0] != 0x28 || g[15] != 0x3b {
		t.Errorf("got %s %x, %v", g, g[:], err)
	}
	for _, bad := range []string{"", s[1:], s + "0", "x" + s[1:]} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if a, b := NewGUID(), NewGUID(); a == b || a.String()[14] != '4' {
		t.Errorf("got %s and %s", a, b)
	}
}
