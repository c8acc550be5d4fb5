package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

var errPower = errors.New("the power is gone")

// cuttable is a Target with a volatile cache: what was not flushed when the
// power goes is, block by block, on the medium, lost, or overtaken by older
// content of the same block.
type cuttable struct {
	sectorSize int

	mu      sync.Mutex // guards the fields below
	data    []byte     // as read while there is power
	medium  []byte
	pending []blockWrite
	left    int // operations until the cut; negative: it never comes
	dark    bool
}

type blockWrite struct {
	at   int64
	data []byte
}

func newCuttable(content []byte, sectorSize int) *cuttable {
	return &cuttable{sectorSize: sectorSize, data: bytes.Clone(content), medium: bytes.Clone(content), left: -1}
}

func (c *cuttable) Size() int64      { return int64(len(c.data)) }
func (c *cuttable) SectorSize() int  { return c.sectorSize }
func (c *cuttable) DropCache() error { return nil }

func (c *cuttable) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dark {
		return 0, errPower
	}
	return copy(p, c.data[off:]), nil
}

// spend counts an operation that changes something, and may be the last one.
func (c *cuttable) spend() error {
	if c.left == 0 {
		c.dark = true
	}
	if c.dark {
		return errPower
	}
	c.left--
	return nil
}

func (c *cuttable) WriteAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.spend(); err != nil {
		return 0, err
	}
	copy(c.data[off:], p)
	for at := 0; at < len(p); at += c.sectorSize {
		c.pending = append(c.pending, blockWrite{off + int64(at), bytes.Clone(p[at : at+c.sectorSize])})
	}
	return len(p), nil
}

func (c *cuttable) ZeroRange(off, n int64) error {
	_, err := c.WriteAt(make([]byte, n), off)
	return err
}

func (c *cuttable) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.spend(); err != nil {
		return err
	}
	copy(c.medium, c.data)
	c.pending = nil
	return nil
}

// restore is the power coming back.
func (c *cuttable) restore(rng *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rng.IntN(2) == 0 {
		rng.Shuffle(len(c.pending), func(i, j int) { c.pending[i], c.pending[j] = c.pending[j], c.pending[i] })
	}
	lost := rng.IntN(101) // percent
	for _, b := range c.pending {
		if rng.IntN(100) >= lost {
			copy(c.medium[b.at:], b.data)
		}
	}
	copy(c.data, c.medium)
	c.pending, c.dark, c.left = nil, false, -1
}

// release is an image and a disk that holds an older one of about the same.
func release(t *testing.T, sectorSize int) (img image, old []byte) {
	img = newImage(t, "dd..r.d....dddrr.d..ddd.rrd.ddd", 3*sectorSize, sectorSize)
	old = bytes.Repeat([]byte{0xee}, len(img.content)+2*testFrame)
	copy(old, img.content)
	rng := rand.New(rand.NewPCG(7, uint64(sectorSize)))
	copy(old, "an older boot sector") // and what the old system changed
	for range 12 {
		at := rng.IntN(len(img.content) - 5000)
		for i := range 1 + rng.IntN(5000) {
			old[at+i] ^= 0x55
		}
	}
	return img, old
}

// Power goes at any moment, and a resume arrives. In between the disk is never
// such that firmware finds a partition table over half a system.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		img, older := release(t, sectorSize)
		for name, start := range map[string]struct {
			content []byte
			opts    Options
		}{
			"fresh": {bytes.Repeat([]byte{0xee}, len(older)), small},
			"reuse": {older, reuse(small)},
		} {
			for seed := range uint64(24) {
				t.Run(fmt.Sprint(name, sectorSize, "-", seed), func(t *testing.T) {
					t.Parallel()
					cutAndResume(t, img, start.content, sectorSize, start.opts, seed)
				})
			}
		}
	}
}

func cutAndResume(t *testing.T, img image, old []byte, sectorSize int, opts Options, seed uint64) {
	c := newCuttable(old, sectorSize)
	rng := rand.New(rand.NewPCG(seed, 11))
	for cut := 0; ; cut++ {
		c.left = rng.IntN(40)
		if cut == 3 {
			c.left = -1
		}
		report, err := Write(t.Context(), c, img.m, newSource(img), opts)
		if err == nil {
			if !report.Verified || !bytes.Equal(c.medium[:len(img.content)], img.content) || !bytes.Equal(c.medium[len(img.content):], old[len(img.content):]) {
				t.Errorf("the medium does not hold the image: %+v", report)
			}
			return
		}
		if !errors.Is(err, errPower) || report.Verified {
			t.Fatalf("got %v, %+v", err, report)
		}
		c.restore(rng)
		checkNotHalf(t, c.medium, img, old)
		opts = resume(small)
	}
}

// checkNotHalf looks where firmware looks: a start or an end that it knows is
// there only when all between them is of one system, and the image's start only
// when all of the image is there.
func checkNotHalf(t *testing.T, medium []byte, img image, old []byte) {
	t.Helper()
	size := len(img.content)
	between := medium[endBytes : size-endBytes]
	whole, starts := false, false
	for _, system := range [][]byte{old[:size], img.content} {
		whole = whole || bytes.Equal(between, system[endBytes:size-endBytes])
		starts = starts || bytes.Equal(medium[:4096], system[:4096]) || bytes.Equal(medium[size-512:size], system[size-512:])
	}
	if starts && !whole {
		t.Error("a disk that starts holds neither system whole")
	}
	if bytes.Equal(medium[:512], img.content[:512]) && !bytes.Equal(medium[endBytes:size], img.content[endBytes:]) {
		t.Error("the image's start is there before all the rest of it")
	}
}

// A cancelled write leaves nothing that starts, either.
func TestCancelledLeavesNothingThatStarts(t *testing.T) {
	t.Parallel()
	img, old := release(t, 512)
	for after := range 30 {
		d := newDisk(int64(len(old)), 512)
		copy(d.data, old)
		ctx, cancel := context.WithCancel(t.Context())
		d.onWrite = func(n int) {
			if n == after {
				cancel()
			}
		}
		if _, err := Write(ctx, d, img.m, newSource(img), reuse(small)); err != nil {
			checkNotHalf(t, d.data, img, old)
		}
		cancel()
	}
}
