package disk

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func stable(t *testing.T, d *Disk, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(d.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHandshakeTellsSizeAndBlock(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *Config) { c.SectorSize = 4096 })
	k := dial(t, d)
	if k.size != 64<<20 || k.blk != 4096 {
		t.Errorf("size %d, block %d; want %d, 4096", k.size, k.blk, 64<<20)
	}
	if code, _ := k.ask(cmdRead, 0, 512, 4096, nil); code != errInval {
		t.Errorf("unaligned read answered %d, want EINVAL", code)
	}
	if code, _ := k.ask(cmdWriteZeroes, 0, 64<<20-4096, 8192, nil); code != errNoSpc {
		t.Errorf("zeroing past the end answered %d, want ENOSPC", code)
	}
}

// What was flushed survives a plug-pull; each later sector is old or new,
// never a mixture; and over the seeds both happen.
func TestPlugPull(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 4096} {
		d := open(t, func(c *Config) { c.SectorSize = sector })
		var kept, gone int
		for seed := range uint64(20) {
			k := dial(t, d)
			old, off, n := fill(0, 256<<10, 1), int64(1<<20), 256<<10
			k.write(off, old, 0)
			k.flush()
			fresh := fill(0, n, 2)
			k.write(off, fresh, 0)
			if got := k.read(off, n); !bytes.Equal(got, fresh) {
				t.Fatal("a guest does not read its own unflushed write")
			}
			loss, err := d.PlugPull(seed)
			if err != nil || loss.Waiting != int64(n) {
				t.Fatalf("plug-pull: %+v, %v; want %d waiting", loss, err, n)
			}
			got := dial(t, d).read(off, n)
			for i := 0; i < n; i += sector {
				switch s := got[i : i+sector]; {
				case bytes.Equal(s, old[i:i+sector]):
					gone++
				case bytes.Equal(s, fresh[i:i+sector]):
					kept++
				default:
					t.Fatalf("sector at %d is torn", i)
				}
			}
			if !bytes.Equal(got, stable(t, d, off, n)) {
				t.Fatal("after a plug-pull the file is not what is read")
			}
		}
		if kept == 0 || gone == 0 {
			t.Errorf("sectors of %d: kept %d, lost %d; want both", sector, kept, gone)
		}
	}
}

func TestPlugPullIsRepeatable(t *testing.T) {
	t.Parallel()
	var images [2][]byte
	for i := range images {
		d := open(t, nil)
		dial(t, d).write(0, fill(0, 1<<20, 3), 0)
		if _, err := d.PlugPull(42); err != nil {
			t.Fatal(err)
		}
		images[i] = stable(t, d, 0, 1<<20)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the same seed lost different sectors")
	}
}

func TestZeroesCanBeLost(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	var kept, gone bool
	for seed := uint64(0); seed < 20 && !(kept && gone); seed++ {
		k := dial(t, d)
		k.write(0, fill(0, 1<<20, 1), 0)
		k.flush()
		if code, _ := k.ask(cmdWriteZeroes, 0, 0, 1<<20, nil); code != 0 {
			t.Fatalf("write zeroes: error %d", code)
		}
		if got := k.read(0, 1<<20); !bytes.Equal(got, make([]byte, 1<<20)) {
			t.Fatal("zeroed range does not read as zeros")
		}
		if _, err := d.PlugPull(seed); err != nil {
			t.Fatal(err)
		}
		after := stable(t, d, 0, 1<<20)
		for i := 0; i < len(after); i += unit {
			if after[i] == 0 {
				kept = true
			} else {
				gone = true
			}
		}
	}
	if !kept || !gone {
		t.Errorf("zeros kept %v, lost %v; want both over the seeds", kept, gone)
	}
}

func TestFUAIsStable(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	want := fill(0, 128<<10, 9)
	dial(t, d).write(64<<10, want, cmdFlagFUA)
	if got := stable(t, d, 64<<10, len(want)); !bytes.Equal(got, want) {
		t.Error("a FUA write is not in the file")
	}
}

// A connection that ends is a guest's reset: the disk keeps its cache.
func TestResetKeepsCache(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	want := fill(0, 64<<10, 4)
	k := dial(t, d)
	k.write(0, want, 0)
	k.c.Close()
	if got := dial(t, d).read(0, len(want)); !bytes.Equal(got, want) {
		t.Error("an unflushed write was lost with the connection")
	}
	if bytes.Equal(stable(t, d, 0, len(want)), want) {
		t.Error("the end of a connection flushed")
	}
}

// Random work over two connections, against a model of the disk; the cache is
// far smaller than the data, so eviction is walked too.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	d := open(t, func(c *Config) { c.Size, c.CacheMiB = size, 1 })
	model := make([]byte, size)
	ks := []*client{dial(t, d), dial(t, d)}
	rnd := rand.New(rand.NewPCG(5, 5))
	for i := range 3000 {
		n := (1 + rnd.IntN(400)) * unit
		off := int64(rnd.IntN(size/unit-n/unit)) * unit
		k := ks[rnd.IntN(2)]
		d.mu.Lock()
		loaded, limit := d.cache.loaded, d.cache.limit
		d.mu.Unlock()
		if loaded > limit {
			t.Fatalf("cache holds %d chunks, limit %d", loaded, limit)
		}
		switch rnd.IntN(40) / 5 {
		case 0:
			if rnd.IntN(10) == 0 {
				k.flush()
			}
		case 1, 2:
			if code, _ := k.ask(cmdWriteZeroes, 0, uint64(off), uint32(n), nil); code != 0 {
				t.Fatalf("write zeroes: error %d", code)
			}
			clear(model[off : off+int64(n)])
		case 3, 4:
			if got := k.read(off, n); !bytes.Equal(got, model[off:off+int64(n)]) {
				t.Fatalf("step %d: read at %d differs from the model", i, off)
			}
		default:
			data := fill(off, n, byte(i))
			k.write(off, data, uint16(rnd.IntN(5)/4))
			copy(model[off:], data)
		}
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stable(t, d, 0, size), model) {
		t.Error("after a flush the file differs from the model")
	}
}

func TestFaultsAndStats(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	k := dial(t, d)
	d.SetFaults(Fault{Offset: 4096, Length: 512, Read: true})
	if code, _ := k.ask(cmdRead, 0, 0, 8192, nil); code != errIO {
		t.Errorf("read over a bad sector answered %d, want EIO", code)
	}
	k.write(4096, fill(0, 512, 1), 0)
	d.SetFaults()
	k.read(4096, 512)
	k.flush()
	got := d.Stats()
	want := Stats{BytesRead: 512, BytesWritten: 512, Reads: 1, Writes: 1, Flushes: 1, Errors: 1, Connections: 1}
	if got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

// Bytes that are no NBD must end the connection and harm nobody.
func TestGarbage(t *testing.T) {
	t.Parallel()
	d := open(t, nil)
	for _, b := range []string{strings.Repeat("x", 4096), "", "\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff"} {
		c, err := net.Dial("unix", d.Socket())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(b))
		c.Close()
	}
	dial(t, d).flush()
}

// QEMU's own client is the one that matters.
func TestQEMUTools(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"qemu-io", "qemu-img"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install qemu-utils", err)
		}
	}
	d := open(t, nil)
	url := "nbd+unix:///?socket=" + d.Socket()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	run("qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 3M", "-c", "write -z 2M 1M", "-c", "discard 3M 64k", "-c", "write -f -P 7 0 4k", url)
	out := run("qemu-io", "-f", "raw", "-c", "read -P 0x5a 1M 1M", "-c", "read -P 0 2M 1088k", "-c", "read -P 7 0 4k", url)
	if strings.Contains(out, "verification failed") {
		t.Errorf("qemu-io reads other bytes than it wrote:\n%s", out)
	}
	if out := run("qemu-img", "info", url); !strings.Contains(out, "64 MiB") {
		t.Errorf("qemu-img info: %s", out)
	}
	st := d.Stats()
	if st.Flushes == 0 || st.Zeroes == 0 {
		t.Errorf("stats %+v: QEMU flushed or zeroed nothing", st)
	}
}
