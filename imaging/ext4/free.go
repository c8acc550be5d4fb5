package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const blockUninit = 0x2 // flag of a group: its bitmap was never made

// FS is a filesystem whose free blocks are known. It does not change.
type FS struct {
	super
	r io.ReaderAt
	// bitmaps is the block of each group's bitmap, 0 where it was never made.
	bitmaps []uint64
}

// Open reads the filesystem that begins at byte 0 of r and takes at most size
// bytes. It reads every bitmap once (32 MiB for a TiB) and keeps none.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, superBytes)
	if size < superAt+superBytes {
		return nil, ErrNotExt4
	}
	if err := readAt(r, b, superAt); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	s, err := parseSuper(b, size)
	if err != nil {
		return nil, err
	}
	fs := &FS{super: s, r: r, bitmaps: make([]uint64, s.groupCount)}
	if err := fs.readGroups(); err != nil {
		return nil, err
	}
	return fs, nil
}

// FreeBytes is how much Zero can clear at most.
func (fs *FS) FreeBytes() int64 { return int64(fs.free) * fs.blockSize }

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}

// readGroups checks each descriptor and each bitmap against one another.
func (fs *FS) readGroups() error {
	table := int64(fs.first+1) * fs.blockSize
	desc := make([]byte, fs.descSize)
	bitmap := make([]byte, fs.blockSize)
	var sum uint64
	for g := range fs.groupCount {
		if err := readAt(fs.r, desc, table+int64(g)*fs.descSize); err != nil {
			return fmt.Errorf("read descriptor of group %d: %w", g, err)
		}
		free, err := fs.readGroup(g, desc, bitmap)
		if err != nil {
			return fmt.Errorf("group %d: %w", g, err)
		}
		sum += free
	}
	if sum != fs.free {
		return fmt.Errorf("%w: its groups have %d free blocks, its superblock says %d", ErrDamaged, sum, fs.free)
	}
	return nil
}

func (fs *FS) readGroup(g uint64, desc, bitmap []byte) (free uint64, err error) {
	le := binary.LittleEndian
	place, sum := uint64(le.Uint32(desc)), uint32(le.Uint16(desc[0x18:]))
	free = uint64(le.Uint16(desc[0xc:]))
	wide := fs.descSize >= 64
	if wide {
		place |= uint64(le.Uint32(desc[0x20:])) << 32
		free |= uint64(le.Uint16(desc[0x2c:])) << 16
		sum |= uint32(le.Uint16(desc[0x38:])) << 16
	}
	if fs.checksums && fs.descSum(g, desc) != le.Uint16(desc[0x1e:]) {
		return 0, fmt.Errorf("%w: the checksum of its descriptor is wrong", ErrDamaged)
	}
	if le.Uint16(desc[0x12:])&blockUninit != 0 {
		return free, nil
	}
	if place <= fs.first || place >= fs.blocks {
		return 0, fmt.Errorf("%w: its bitmap cannot lie in block %d", ErrDamaged, place)
	}
	if err := readAt(fs.r, bitmap, int64(place)*fs.blockSize); err != nil {
		return 0, fmt.Errorf("read bitmap: %w", err)
	}
	if fs.checksums {
		got := crc(fs.seed, bitmap[:fs.perGroup/8])
		if !wide {
			got &= 0xffff
		}
		if got != sum {
			return 0, fmt.Errorf("%w: the checksum of its bitmap is wrong", ErrDamaged)
		}
	}
	if got := fs.countFree(g, bitmap); got != free {
		return 0, fmt.Errorf("%w: its bitmap has %d free blocks, its descriptor says %d", ErrDamaged, got, free)
	}
	fs.bitmaps[g] = place
	return free, nil
}

// descSum is the checksum of a descriptor with its own field as zero.
func (fs *FS) descSum(g uint64, desc []byte) uint16 {
	number := binary.LittleEndian.AppendUint32(nil, uint32(g))
	sum := crc(crc(fs.seed, number), desc[:0x1e])
	sum = crc(sum, []byte{0, 0})
	return uint16(crc(sum, desc[0x20:]))
}

// groupBlocks is how many blocks group g has: the last one may have fewer.
func (fs *FS) groupBlocks(g uint64) uint64 {
	return min(fs.perGroup, fs.blocks-fs.first-g*fs.perGroup)
}

func (fs *FS) countFree(g uint64, bitmap []byte) uint64 {
	n := fs.groupBlocks(g)
	used := 0
	for _, b := range bitmap[:n/8] {
		used += bits.OnesCount8(b)
	}
	for i := n / 8 * 8; i < n; i++ {
		used += int(bitmap[i/8] >> (i % 8) & 1)
	}
	return n - uint64(used)
}

// Cursor clears free blocks; for one goroutine. It keeps one bitmap.
type Cursor struct {
	fs     *FS
	group  uint64 // whose bitmap is kept, plus one; 0 if none
	bitmap []byte
}

// NewCursor gives one.
func (fs *FS) NewCursor() *Cursor { return &Cursor{fs: fs} }

// Zero clears what of p, the bytes of the filesystem from off on, lies in free
// blocks, and tells how many bytes lay in such blocks that were not zero before.
// A block that p has only a part of is cleared in that part.
func (c *Cursor) Zero(p []byte, off int64) (cleared int64, err error) {
	fs := c.fs
	for len(p) > 0 {
		block := uint64(off / fs.blockSize)
		in := off % fs.blockSize
		part := p[:min(int64(len(p)), fs.blockSize-in)]
		free, err := c.isFree(block)
		if err != nil {
			return cleared, err
		}
		if free && !isZero(part) {
			clear(part)
			cleared += int64(len(part))
		}
		p, off = p[len(part):], off+int64(len(part))
	}
	return cleared, nil
}

var zeros [4096]byte

func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// isFree says no for what lies before, behind or in groups without a bitmap.
func (c *Cursor) isFree(block uint64) (bool, error) {
	fs := c.fs
	if block < fs.first || block >= fs.blocks {
		return false, nil
	}
	g, i := (block-fs.first)/fs.perGroup, (block-fs.first)%fs.perGroup
	if fs.bitmaps[g] == 0 {
		return false, nil
	}
	if c.group != g+1 {
		c.group = 0
		if c.bitmap == nil {
			c.bitmap = make([]byte, fs.blockSize)
		}
		if err := readAt(fs.r, c.bitmap, int64(fs.bitmaps[g])*fs.blockSize); err != nil {
			return false, fmt.Errorf("read bitmap of group %d: %w", g, err)
		}
		c.group = g + 1
	}
	return c.bitmap[i/8]>>(i%8)&1 == 0, nil
}
