package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}

// sparse is a disk of size bytes with data that compresses in two thirds of its
// stretches of 100,000 bytes.
func sparse(size int) []byte {
	rng := rand.New(rand.NewPCG(5, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		if i/100_000%3 != 1 {
			b[i] = byte(rng.UintN(30))
		}
	}
	return b
}

// convert gives what qemu-img makes of a disk.
func convert(t testing.TB, disk []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	raw, q := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, append(append([]string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2"}, args...), raw, q)...)
	data, err := os.ReadFile(q)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openBytes(data []byte, maxSize uint64) (*Image, error) {
	return Open(bytes.NewReader(data), int64(len(data)), maxSize)
}

// readAll reads in steps that fit no cluster.
func readAll(img *Image, step int) ([]byte, error) {
	c := img.NewCursor()
	defer c.Close()
	disk := make([]byte, img.Size())
	for at := 0; at < len(disk); at += step {
		part := disk[at:min(at+step, len(disk))]
		part[0] = 0xff // what was there must go
		zero, err := c.ReadAt(part, int64(at))
		if err != nil {
			return nil, err
		}
		if zero && !bytes.Equal(part, make([]byte, len(part))) {
			return nil, errors.New("a part said to be zero is not")
		}
	}
	return disk, nil
}

var kinds = map[string][]string{
	"plain":          {},
	"version 2":      {"-o", "compat=0.10"},
	"v2 compressed":  {"-c", "-o", "compat=0.10"},
	"compressed":     {"-c"},
	"zstd":           {"-c", "-o", "compression_type=zstd"},
	"clusters 512":   {"-o", "cluster_size=512"},
	"clusters 4K":    {"-o", "cluster_size=4k"},
	"4K zstd":        {"-c", "-o", "cluster_size=4k,compression_type=zstd"},
	"512 compressed": {"-c", "-o", "cluster_size=512"},
	"clusters 2M":    {"-o", "cluster_size=2M"},
	"2M compressed":  {"-c", "-o", "cluster_size=2M"},
	"2M zstd":        {"-c", "-o", "cluster_size=2M,compression_type=zstd"},
	"metadata":       {"-o", "preallocation=metadata"},
	"preallocated":   {"-o", "preallocation=falloc"},
	"lazy refcounts": {"-o", "lazy_refcounts=on"},
	"refcount 1":     {"-o", "refcount_bits=1"},
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5<<20 + 512*77, 512} {
		disk := sparse(size)
		for name, args := range kinds {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				data := convert(t, disk, args...)
				img, err := openBytes(data, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				for _, step := range []int{1 << 20, 70_001} {
					got, err := readAll(img, step)
					if err != nil || !bytes.Equal(got, disk) {
						t.Errorf("in steps of %d: %d bytes, error %v; want the disk of %d", step, len(got), err, size)
					}
				}
				// A file that was cut off is damage, never zeros.
				short, err := openBytes(data[:len(data)*2/3], 1<<30)
				if err == nil {
					_, err = readAll(short, 1<<20)
				}
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("cut off: got %v, want %v", err, ErrDamaged)
				}
			})
		}
	}
}

func TestEmptyAndLargeDisks(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"0", "900G"} {
		path := filepath.Join(t.TempDir(), "q")
		run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, size)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := openBytes(data, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		c := img.NewCursor()
		buf := make([]byte, min(img.Size(), 1<<20))
		if zero, err := c.ReadAt(buf, img.Size()-int64(len(buf))); err != nil || !zero {
			t.Errorf("%s: zero %t, error %v", size, zero, err)
		}
		if _, err := c.ReadAt(make([]byte, 1), img.Size()); !errors.Is(err, io.EOF) {
			t.Errorf("%s: beyond the end: got %v, want %v", size, err, io.EOF)
		}
	}
}

func TestHostileHeadersAreNamed(t *testing.T) {
	t.Parallel()
	plain := convert(t, sparse(1<<20))
	v2 := convert(t, sparse(1<<20), "-o", "compat=0.10")
	patch := func(data []byte, offset int, b ...byte) []byte {
		data = bytes.Clone(data)
		copy(data[offset:], b)
		return data
	}
	be := binary.BigEndian.AppendUint64
	l1At := binary.BigEndian.Uint64(plain[40:])
	l2At := binary.BigEndian.Uint64(plain[l1At:]) & offsetMask
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                {nil, ErrNotQCOW2},
		"other magic":            {[]byte("QFI\xfa and so on"), ErrNotQCOW2},
		"magic alone":            {[]byte(Magic), ErrDamaged},
		"version 2 cut":          {v2[:71], ErrDamaged},
		"version 3 cut":          {plain[:103], ErrDamaged},
		"version 1":              {patch(plain, 4, 0, 0, 0, 1), ErrUnsupported},
		"version 4":              {patch(plain, 4, 0, 0, 0, 4), ErrUnsupported},
		"backing file":           {patch(plain, 8, 1), ErrUnsupported},
		"AES":                    {patch(plain, 35, 1), ErrUnsupported},
		"LUKS":                   {patch(plain, 35, 2), ErrUnsupported},
		"corrupt bit":            {patch(plain, 79, 2), ErrDamaged},
		"external data":          {patch(plain, 79, 4), ErrUnsupported},
		"extended L2":            {patch(plain, 79, 16), ErrUnsupported},
		"unknown feature":        {patch(plain, 72, 0x80), ErrUnsupported},
		"compression 2":          {patch(patch(plain, 79, 8), 104, 2), ErrUnsupported},
		"compression disagrees":  {patch(plain, 79, 8), ErrDamaged},
		"clusters of 2^8":        {patch(plain, 23, 8), ErrDamaged},
		"clusters of 2^22":       {patch(plain, 23, 22), ErrDamaged},
		"clusters of 2^2^31":     {patch(plain, 20, 0x80), ErrDamaged},
		"an exabyte":             {patch(plain, 24, 0x10), ErrTooLarge},
		"header of 4 GiB":        {patch(plain, 100, 0xff), ErrDamaged},
		"header of 105":          {patch(plain, 103, 105), ErrDamaged},
		"no first table":         {patch(plain, 36, 0, 0, 0, 0), ErrDamaged},
		"first table at 0":       {patch(plain, 40, be(nil, 0)...), ErrDamaged},
		"first table far away":   {patch(plain, 40, be(nil, 1<<40)...), ErrDamaged},
		"first table wraps":      {patch(plain, 40, be(nil, 1<<64-1<<16)...), ErrDamaged},
		"first table crooked":    {patch(plain, 40, be(nil, l1At+512)...), ErrDamaged},
		"second table far away":  {patch(plain, int(l1At), be(nil, 1<<50)...), ErrDamaged},
		"second table crooked":   {patch(plain, int(l1At), be(nil, l2At+512)...), ErrDamaged},
		"first table's reserved": {patch(plain, int(l1At), be(nil, l2At|1<<62)...), ErrDamaged},
		"cluster far away":       {patch(plain, int(l2At), be(nil, 1<<50)...), ErrDamaged},
		"cluster crooked":        {patch(plain, int(l2At), be(nil, 5<<16+512)...), ErrDamaged},
		"cluster's reserved":     {patch(plain, int(l2At), be(nil, 5<<16|1<<60)...), ErrDamaged},
		"compressed at 0":        {patch(plain, int(l2At), be(nil, compressedFlag)...), ErrDamaged},
		"compressed garbage":     {patch(plain, int(l2At), be(nil, compressedFlag|5<<16)...), ErrDamaged},
		"compressed far away":    {patch(plain, int(l2At), be(nil, compressedFlag|1<<50)...), ErrDamaged},
		"zero flag in version 2": {patch(v2, int(binary.BigEndian.Uint64(v2[binary.BigEndian.Uint64(v2[40:]):])&offsetMask), be(nil, 1)...), ErrDamaged},
		"tiny clusters, 64 GiB":  {patch(patch(patch(plain, 20, 0, 0, 0, 9), 24, be(nil, 1<<38)...), 36, 0xff), ErrUnsupported},
		"first table cut":        {plain[:l1At+4], ErrDamaged},
	} {
		img, err := openBytes(tc.data, 1<<40)
		if err == nil {
			_, err = readAll(img, 1<<20)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

// What the writer makes is whole for QEMU, and reads as the disk.
func TestWriter(t *testing.T) {
	t.Parallel()
	const part = 256 << 10
	for _, size := range []int{512, 1 << 20, 3<<20 + 512*5} {
		disk := sparse(size)
		clear(disk[:min(size, part)/2])
		has := func(i int) bool {
			return !bytes.Equal(disk[i*part:min((i+1)*part, size)], make([]byte, min(part, size-i*part)))
		}
		dir := t.TempDir()
		path, raw, back := filepath.Join(dir, "q"), filepath.Join(dir, "raw"), filepath.Join(dir, "back")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWriter(f, int64(size), part, has)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < size; at += part {
			if has(at / part) {
				if _, err := w.Write(disk[at:min(at+part, size)]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(w.Close(), f.Close(), os.WriteFile(raw, disk, 0o600)); err != nil {
			t.Fatal(err)
		}
		run(t, "qemu-img", "check", "-f", "qcow2", path)
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
		run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, back)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := openBytes(data, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(img, 1<<20); err != nil || !bytes.Equal(got, disk) {
			t.Errorf("size %d: read back differs (%v)", size, err)
		}
	}
}

// A large disk needs many refcount blocks and second tables; only those are
// written here, and QEMU finds nothing wrong with them.
func TestWriterOfManyTables(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "q")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const part, size = 16 << 20, 3<<40 + 512
	has := func(i int) bool { return i%1000 < 4 }
	w, err := NewWriter(f, size, part, has)
	if err != nil {
		t.Fatal(err)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range w.parts {
		at += clusters(int64(n)) * writeCluster
	}
	if err := errors.Join(f.Truncate(at), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "check", "-f", "qcow2", path)
	if err := w.Close(); err == nil {
		t.Error("Close with parts missing: got nil, want an error")
	}
}

func FuzzImage(f *testing.F) {
	disk := sparse(20 << 9)
	for _, args := range [][]string{
		{"-o", "cluster_size=512"}, {"-c", "-o", "cluster_size=512"}, {"-o", "compat=0.10,cluster_size=512"},
		{"-c", "-o", "compression_type=zstd,cluster_size=1k"},
	} {
		f.Add(convert(f, disk, args...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 256 << 10
		img, err := openBytes(data, limit)
		if err != nil {
			return
		}
		if img.Size() > limit {
			t.Errorf("size %d is above the limit", img.Size())
		}
		if _, err := readAll(img, 20<<10); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v, want %v", err, ErrDamaged)
		}
	})
}
