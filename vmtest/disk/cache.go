package disk

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	chunkSize = 64 << 10         // bytes that the cache handles together
	unit      = 512              // bytes for each dirty bit
	units     = chunkSize / unit // in a chunk
)

// chunk is what the cache holds newer than the file for one aligned 64 KiB.
type chunk struct {
	no    int64
	slot  int  // index in cache.order
	zero  bool // all of it was zeroed, beneath the dirty units
	dirty [units / 64]uint64
	data  []byte // chunkSize bytes, nil while nothing is dirty
}

func (c *chunk) isDirty(u int) bool { return c.dirty[u/64]&(1<<(u%64)) != 0 }

func (c *chunk) set(u int, on bool) {
	if on {
		c.dirty[u/64] |= 1 << (u % 64)
	} else {
		c.dirty[u/64] &^= 1 << (u % 64)
	}
}

func (c *chunk) count() (n int) {
	for _, w := range c.dirty {
		n += bits.OnesCount64(w)
	}
	return n
}

// cache is the volatile write cache over a file. Not safe for concurrent use.
type cache struct {
	file   *os.File
	chunks map[int64]*chunk
	order  []*chunk // the same, for choosing at random
	loaded int      // chunks with data
	limit  int      // of loaded
	rnd    *rand.Rand
}

func newCache(f *os.File, limitBytes int, rnd *rand.Rand) *cache {
	return &cache{file: f, chunks: map[int64]*chunk{}, limit: max(1, limitBytes/chunkSize), rnd: rnd}
}

func (c *cache) chunk(no int64) *chunk {
	k := c.chunks[no]
	if k == nil {
		k = &chunk{no: no, slot: len(c.order)}
		c.chunks[no], c.order = k, append(c.order, k)
	}
	return k
}

func (c *cache) drop(k *chunk) {
	if k.data != nil {
		c.loaded--
	}
	last := len(c.order) - 1
	c.order[k.slot] = c.order[last]
	c.order[k.slot].slot = k.slot
	c.order = c.order[:last]
	delete(c.chunks, k.no)
}

// pieces calls f for the parts of [off, off+n) that lie in one chunk each,
// from is where the part begins in the chunk.
func pieces(off, n int64, f func(no int64, from, length int) error) error {
	for n > 0 {
		from := int(off % chunkSize)
		length := int(min(n, int64(chunkSize-from)))
		if err := f(off/chunkSize, from, length); err != nil {
			return err
		}
		off, n = off+int64(length), n-int64(length)
	}
	return nil
}

// read fills p with the newest content at off.
func (c *cache) read(p []byte, off int64) error {
	return pieces(off, int64(len(p)), func(no int64, from, length int) error {
		part := p[:length]
		p = p[length:]
		k := c.chunks[no]
		switch {
		case k != nil && k.zero:
			clear(part)
		default:
			if _, err := c.file.ReadAt(part, no*chunkSize+int64(from)); err != nil {
				return fmt.Errorf("read %s: %w", c.file.Name(), err)
			}
		}
		if k == nil || k.data == nil {
			return nil
		}
		for u := from / unit; u < (from+length)/unit; u++ {
			if k.isDirty(u) {
				copy(part[u*unit-from:][:unit], k.data[u*unit:])
			}
		}
		return nil
	})
}

// write keeps p, whose offset and length are multiples of unit, as newer than
// the file. A nil p of length n stands for zeros.
func (c *cache) write(p []byte, off, n int64) error {
	return pieces(off, n, func(no int64, from, length int) error {
		k := c.chunk(no)
		if p == nil && length == chunkSize {
			if k.data != nil {
				c.loaded--
			}
			k.zero, k.data, k.dirty = true, nil, [units / 64]uint64{}
			return nil
		}
		if k.data == nil {
			k.data = make([]byte, chunkSize)
			c.loaded++
		}
		if p == nil {
			clear(k.data[from : from+length])
		} else {
			copy(k.data[from:], p[:length])
			p = p[length:]
		}
		for u := from / unit; u < (from+length)/unit; u++ {
			k.set(u, true)
		}
		return c.evict(k)
	})
}

// evict makes room by writing back chunks chosen at random, but not keep.
func (c *cache) evict(keep *chunk) error {
	for c.loaded > c.limit && len(c.order) > 1 {
		k := c.order[c.rnd.IntN(len(c.order))]
		if k == keep || k.data == nil && c.loaded > c.limit && c.rnd.IntN(4) != 0 {
			continue
		}
		if err := c.apply(k); err != nil {
			return err
		}
		c.drop(k)
	}
	return nil
}

// apply writes a chunk to the file; the cache still holds it afterwards.
func (c *cache) apply(k *chunk) error {
	base := k.no * chunkSize
	if k.zero {
		if err := punch(c.file, base, chunkSize); err != nil {
			return err
		}
	}
	for u := 0; u < units; u++ {
		if !k.isDirty(u) {
			continue
		}
		end := u
		for end < units && k.isDirty(end) {
			end++
		}
		if _, err := c.file.WriteAt(k.data[u*unit:end*unit], base+int64(u)*unit); err != nil {
			return fmt.Errorf("write %s: %w", c.file.Name(), err)
		}
		u = end
	}
	return nil
}

// flush makes everything stable.
func (c *cache) flush() error {
	for len(c.order) > 0 {
		k := c.order[len(c.order)-1]
		if err := c.apply(k); err != nil {
			return err
		}
		c.drop(k)
	}
	return nil
}

// flushRange makes the chunks that touch [off, off+n) stable.
func (c *cache) flushRange(off, n int64) error {
	return pieces(off, n, func(no int64, _, _ int) error {
		k := c.chunks[no]
		if k == nil {
			return nil
		}
		if err := c.apply(k); err != nil {
			return err
		}
		c.drop(k)
		return nil
	})
}

// lose is the loss of power: of each chunk all, nothing, or a random part of
// its sectors reaches the file, the rest is forgotten. It returns how many
// bytes were waiting and how many of them were lost.
func (c *cache) lose(rnd *rand.Rand, sector int) (waiting, lost int64, err error) {
	slices.SortFunc(c.order, func(a, b *chunk) int { return int(a.no - b.no) })
	for i, k := range c.order {
		k.slot = i
		had := int64(k.count() * unit)
		if k.zero {
			had = chunkSize
		}
		waiting += had
		switch rnd.IntN(3) {
		case 0:
			k.zero, k.dirty = false, [units / 64]uint64{}
			lost += had
		case 1:
			lost += tear(k, rnd, sector)
		}
		if err := c.apply(k); err != nil {
			return waiting, lost, err
		}
	}
	c.chunks, c.order, c.loaded = map[int64]*chunk{}, nil, 0
	return waiting, lost, nil
}

// tear forgets a random half of a chunk's sectors. A sector is never split:
// disks promise that much.
func tear(k *chunk, rnd *rand.Rand, sector int) (lost int64) {
	if k.zero { // as dirty zeros, so that they tear by sectors too
		if k.data == nil {
			k.data = make([]byte, chunkSize)
		}
		for u := range units {
			if !k.isDirty(u) {
				clear(k.data[u*unit : (u+1)*unit])
				k.set(u, true)
			}
		}
		k.zero = false
	}
	step := sector / unit
	for u := 0; u < units; u += step {
		if !k.isDirty(u) || rnd.IntN(2) == 0 {
			continue
		}
		for i := range step {
			k.set(u+i, false)
		}
		lost += int64(sector)
	}
	return lost
}

// punch makes a range read as zeros without using space. The last chunk of
// the file may reach past its end; KEEP_SIZE leaves the size alone.
func punch(f *os.File, off, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err != nil {
		return fmt.Errorf("punch hole in %s: %w", f.Name(), err)
	}
	return nil
}
