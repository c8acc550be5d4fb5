package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func run(t testing.TB, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	return string(out)
}

// makeFS gives a filesystem with files in it, of which some were deleted, and
// rubbish in every block that is free.
func makeFS(t testing.TB, sizeKiB int, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		data := make([]byte, rng.IntN(60_000))
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		path := filepath.Join(tree, strconv.Itoa(i%7), strconv.Itoa(i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "fs")
	rubbish := bytes.Repeat([]byte("rubbish "), sizeKiB*128)
	if err := os.WriteFile(path, rubbish, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, append(append([]string{"/usr/sbin/mke2fs", "-q", "-F", "-E", "nodiscard", "-d", tree}, args...), path, fmt.Sprintf("%dk", sizeKiB))...)
	for i := 0; i < 40; i += 3 {
		run(t, "/usr/sbin/debugfs", "-w", "-R", fmt.Sprintf("rm /%d/%d", i%7, i), path)
	}
	run(t, "/usr/sbin/e2fsck", "-fy", path) // debugfs leaves counts to it
	return path
}

func openFile(t testing.TB, path string) (*FS, []byte, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := Open(bytes.NewReader(data), int64(len(data)))
	return fs, data, err
}

var kinds = map[string][]string{
	"ext4":             {"-t", "ext4"},
	"ext4 of 1 KiB":    {"-t", "ext4", "-b", "1024"},
	"no checksums":     {"-t", "ext4", "-O", "^metadata_csum"},
	"32 bit":           {"-t", "ext4", "-O", "^64bit"},
	"no flex_bg":       {"-t", "ext4", "-O", "^flex_bg", "-b", "1024", "-g", "1024"},
	"checksum seed":    {"-t", "ext4", "-O", "metadata_csum_seed"},
	"many groups":      {"-t", "ext4", "-b", "1024", "-g", "512"},
	"ext3":             {"-t", "ext3"},
	"ext2":             {"-t", "ext2", "-b", "2048"},
	"casefold":         {"-t", "ext4", "-O", "casefold"},
	"inline data":      {"-t", "ext4", "-O", "inline_data"},
	"no lazy inodes":   {"-t", "ext4", "-E", "nodiscard,lazy_itable_init=0"},
	"no uninit_bg":     {"-t", "ext4", "-O", "^metadata_csum,^uninit_bg"},
	"64 KiB of inodes": {"-t", "ext4", "-N", "64"},
}

// What is cleared is what dumpe2fs calls free (but for groups without a bitmap,
// which are left alone), and e2fsck finds the rest whole, file by file.
func TestFreeBlocksAreThoseOfDumpe2fs(t *testing.T) {
	t.Parallel()
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := makeFS(t, 17<<10+5, args...)
			fs, data, err := openFile(t, path)
			if err != nil {
				t.Fatal(err)
			}
			before := run(t, "/usr/sbin/debugfs", "-R", "ls -l /1", path) + contents(t, path)
			want := dumpe2fsFree(t, path)
			trimmed := bytes.Clone(data)
			c := fs.NewCursor()
			var cleared int64
			for at := 0; at < len(trimmed); at += 300_000 { // fits no block
				n, err := c.Zero(trimmed[at:min(at+300_000, len(trimmed))], int64(at))
				if err != nil {
					t.Fatal(err)
				}
				cleared += n
			}
			if cleared == 0 || cleared > fs.FreeBytes() {
				t.Errorf("cleared %d bytes, %d are free", cleared, fs.FreeBytes())
			}
			size := int(fs.blockSize)
			for at := 0; at+size <= len(data); at += size {
				changed := !bytes.Equal(data[at:at+size], trimmed[at:at+size])
				if changed && !want[at/size] {
					t.Fatalf("block %d was changed, and dumpe2fs does not call it free", at/size)
				}
				if g := (uint64(at/size) - fs.first) / fs.perGroup; want[at/size] && fs.bitmaps[g] != 0 && !bytes.Equal(trimmed[at:at+size], make([]byte, size)) {
					t.Fatalf("block %d is free and was not cleared", at/size)
				}
			}
			if err := os.WriteFile(path, trimmed, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "/usr/sbin/e2fsck", "-fn", path)
			if after := run(t, "/usr/sbin/debugfs", "-R", "ls -l /1", path) + contents(t, path); after != before {
				t.Error("files differ after trimming")
			}
		})
	}
}

// contents is all files of the filesystem in one string.
func contents(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "/usr/sbin/debugfs", "-R", "rdump / "+dir, path)
	var all strings.Builder
	for i := range 40 {
		data, _ := os.ReadFile(filepath.Join(dir, strconv.Itoa(i%7), strconv.Itoa(i)))
		fmt.Fprintf(&all, "%d:%d:%s\n", i, len(data), data)
	}
	return all.String()
}

var freeLine = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)

// dumpe2fsFree gives the blocks that dumpe2fs lists as free.
func dumpe2fsFree(t testing.TB, path string) map[int]bool {
	t.Helper()
	free := make(map[int]bool)
	for _, line := range freeLine.FindAllStringSubmatch(run(t, "/usr/sbin/dumpe2fs", path), -1) {
		for span := range strings.SplitSeq(line[1], ", ") {
			if span == "" {
				continue
			}
			from, to, ok := strings.Cut(span, "-")
			if !ok {
				to = from
			}
			a, err1 := strconv.Atoi(from)
			b, err2 := strconv.Atoi(to)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			for i := a; i <= b; i++ {
				free[i] = true
			}
		}
	}
	return free
}

func TestWhatIsInDoubtIsRefused(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(makeFS(t, 16<<10, "-t", "ext4", "-b", "4096"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(makeFS(t, 16<<10, "-t", "ext4", "-O", "^metadata_csum"))
	if err != nil {
		t.Fatal(err)
	}
	set := func(data []byte, at int, b ...byte) []byte {
		data = bytes.Clone(data)
		copy(data[superAt+at:], b)
		return data
	}
	bitmap := func(data []byte) []byte { // a used block of the first group becomes free
		fs, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.Clone(data)
		data[int64(fs.bitmaps[0])*fs.blockSize] &^= 1
		return data
	}
	for name, tc := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"nothing":            {nil, ErrNotExt4, ""},
		"zeros":              {make([]byte, 1<<20), ErrNotExt4, ""},
		"journal to replay":  {set(plain, 0x60, plain[superAt+0x60]|4), ErrDirty, "journal"},
		"not unmounted":      {set(plain, 0x3a, 0), ErrDirty, "not unmounted"},
		"errors":             {set(plain, 0x3a, 3), ErrDirty, "errors"},
		"orphans":            {set(plain, 0xe8, 12), ErrDirty, "deleted files"},
		"orphan file":        {set(plain, 0x66, 1), ErrDirty, "deleted files"},
		"meta_bg":            {set(plain, 0x60, plain[superAt+0x60]|0x10), ErrUnsupported, "meta_bg"},
		"mmp":                {set(plain, 0x61, plain[superAt+0x61]|1), ErrUnsupported, "mmp"},
		"unknown feature":    {set(plain, 0x63, 0x80), ErrUnsupported, "0x80000000"},
		"bigalloc":           {set(plain, 0x65, plain[superAt+0x65]|2), ErrUnsupported, "bigalloc"},
		"superblock's sum":   {set(good, 0x78, 'x'), ErrDamaged, "checksum of its superblock"},
		"bitmap's sum":       {bitmap(good), ErrDamaged, "checksum of its bitmap"},
		"bitmap's count":     {bitmap(plain), ErrDamaged, "free blocks"},
		"superblock's count": {set(plain, 0xc, plain[superAt+0xc]+1), ErrDamaged, "its superblock says"},
		"descriptor's sum":   {set(good, 4096-superAt+8, 0xff), ErrDamaged, "checksum of its descriptor"},
		"block size":         {set(plain, 0x18, 9), ErrDamaged, "2^9 KiB"},
		"too many blocks":    {set(plain, 0x4, 0xff, 0xff, 0xff, 0xff), ErrDamaged, "do not fit"},
		"no groups":          {set(plain, 0x20, 0, 0, 0, 0), ErrDamaged, "groups of 0"},
		"tiny groups":        {set(plain, 0x20, 8, 0, 0, 0), ErrDamaged, ""},
		"descriptor size":    {set(plain, 0xfe, 0xff, 0xff), ErrDamaged, "descriptors"},
		"cut off":            {plain[:3<<20], ErrDamaged, "do not fit"},
	} {
		_, err := Open(bytes.NewReader(tc.data), int64(len(tc.data)))
		if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %v about %q", name, err, tc.want, tc.text)
		}
	}
}

func FuzzOpen(f *testing.F) {
	small, err := os.ReadFile(makeFS(f, 8<<10, "-t", "ext2", "-b", "1024", "-N", "64"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small[superAt:superAt+2048], uint64(1<<30))
	f.Fuzz(func(t *testing.T, head []byte, size uint64) {
		data := make([]byte, 64<<10)
		copy(data[superAt:], head)
		fs, err := Open(bytes.NewReader(data), int64(size%(1<<40)))
		if err != nil {
			return
		}
		if _, err := fs.NewCursor().Zero(make([]byte, 1<<20), 0); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
