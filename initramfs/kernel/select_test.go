package kernel

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// koFile makes the smallest ELF file that holds a .modinfo section with the
// given KEY=VALUE strings.
func koFile(t *testing.T, info ...string) []byte {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	modinfo := strings.Join(info, "\x00") + "\x00"
	const headerSize, sectionSize = 64, 64
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	put([]uint16{1, 62})
	put(uint32(1))
	put([]uint64{0, 0, uint64(headerSize + len(modinfo) + len(names))})
	put(uint32(0))
	put([]uint16{headerSize, 0, 0, sectionSize, 3, 2})
	b.WriteString(modinfo + names)
	section := func(name, kind uint32, offset, size uint64) {
		put([]uint32{name, kind})
		put([]uint64{0, 0, offset, size})
		put([]uint32{0, 0})
		put([]uint64{1, 0})
	}
	section(0, 0, 0, 0)
	section(1, 1, headerSize, uint64(len(modinfo)))
	section(10, 3, uint64(headerSize+len(modinfo)), uint64(len(names)))
	return b.Bytes()
}

// kernelTree writes modules below a fresh root and returns the root.
func kernelTree(t *testing.T, modules map[string][]string, builtin string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules/6.1.0-test")
	for path, info := range modules {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, koFile(t, info...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSelect(t *testing.T) {
	t.Parallel()
	root := kernelTree(t, map[string][]string{
		"kernel/fs/ext4/ext4.ko":              {"depends=jbd2,mbcache", "softdep=pre: crc32c post: x", "alias=fs-ext4"},
		"kernel/fs/jbd2/jbd2.ko":              {"depends="},
		"kernel/fs/mbcache.ko":                {"license=GPL"},
		"kernel/crypto/crc32c_generic.ko":     {"alias=crc32c"},
		"kernel/drivers/crypto/chcr.ko":       {"alias=crc32c"},
		"kernel/drivers/net/tg3.ko":           {"alias=pci:v000014E4d00001644sv*sd*bc*sc*i*", "firmware=tigon/tg3.bin", "firmware=tigon/tg3_tso.bin", "depends=libphy"},
		"kernel/drivers/char/ipmi-devintf.ko": {"depends="},
		"kernel/drivers/unused.ko":            {"depends=gone"},
	}, "kernel/drivers/net/phy/libphy.ko\n")
	tree, err := Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Select([]string{"ext4", "tg3", "ipmi_devintf", "libphy", "no-such"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Absent, []string{"no_such"}); diff != "" {
		t.Errorf("absent (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(s.Firmware(), []string{"tigon/tg3.bin", "tigon/tg3_tso.bin"}); diff != "" {
		t.Errorf("firmware (-got +want):\n%s", diff)
	}
	got := map[string]string{}
	for _, f := range s.Files() {
		got[strings.TrimPrefix(f.Path, "lib/modules/6.1.0-test/")] = string(f.Content)
	}
	want := map[string]string{
		"kernel/crypto/crc32c_generic.ko": "", "kernel/drivers/char/ipmi-devintf.ko": "", "kernel/drivers/net/tg3.ko": "",
		"kernel/fs/ext4/ext4.ko": "", "kernel/fs/jbd2/jbd2.ko": "", "kernel/fs/mbcache.ko": "",
		"modules.alias":   "alias crc32c crc32c_generic\nalias pci:v000014E4d00001644sv*sd*bc*sc*i* tg3\nalias fs-ext4 ext4\n",
		"modules.builtin": "kernel/drivers/net/phy/libphy.ko\n",
		"modules.dep": "kernel/crypto/crc32c_generic.ko:\nkernel/drivers/char/ipmi-devintf.ko:\nkernel/drivers/net/tg3.ko:\n" +
			"kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\nkernel/fs/jbd2/jbd2.ko:\nkernel/fs/mbcache.ko:\n",
		"modules.load":    "ipmi_devintf\n",
		"modules.softdep": "softdep ext4 pre: crc32c_generic\n",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("files (-got +want):\n%s", diff)
	}
	if _, err := tree.Select([]string{"unused"}); err == nil || !strings.Contains(err.Error(), "needs gone") {
		t.Errorf("broken dependency: got %v, want an error naming it", err)
	}
}

func TestScanRefuses(t *testing.T) {
	t.Parallel()
	for name, root := range map[string]string{
		"empty":      t.TempDir(),
		"no modules": kernelTree(t, nil, ""),
	} {
		if _, err := Scan(root); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
	if _, err := readModule(bytes.NewReader([]byte("\x7fELF broken")), "a.ko", "a"); err == nil {
		t.Error("broken ELF: got nil, want an error")
	}
}

func TestClassesHaveNoDoubles(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, c := range Classes() {
		for _, m := range c.Modules {
			if other, twice := seen[m]; twice {
				t.Errorf("module %s is in %q and %q", m, other, c.Name)
			}
			seen[m] = c.Name
		}
	}
	for _, m := range ByName() {
		if _, ok := seen[m]; !ok {
			t.Errorf("module %s is loaded by name but in no class", m)
		}
	}
}

func TestFindFirmware(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"tigon/tg3.bin", "rtl/a-1.fw.xz", "rtl/a-2.fw.xz"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"rtl/a-*.fw", "rtl/gone.fw", "tigon/tg3.bin"}
	found, missing, err := FindFirmware(dir, names)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Path)
	}
	if diff := cmp.Diff(got, []string{"lib/firmware/rtl/a-1.fw.xz", "lib/firmware/rtl/a-2.fw.xz", "lib/firmware/tigon/tg3.bin"}); diff != "" {
		t.Errorf("found (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(missing, []string{"rtl/gone.fw"}); diff != "" {
		t.Errorf("missing (-got +want):\n%s", diff)
	}
	if _, missing, _ := FindFirmware("", names); len(missing) != 3 {
		t.Errorf("without a directory: got %d missing, want 3", len(missing))
	}
	if _, _, err := FindFirmware(dir, []string{"../etc/passwd"}); err == nil {
		t.Error("name outside: got nil, want an error")
	}
}
