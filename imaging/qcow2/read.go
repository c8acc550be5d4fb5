package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Bits of the entries of both tables.
const (
	copiedFlag     = 1 << 63 // refcount is one; for writers
	compressedFlag = 1 << 62 // second table only
	zeroFlag       = 1 << 0  // second table of version 3 only
	offsetMask     = 0x00fffffffffffe00
)

// Image is an opened file. It does not change; reading goes through cursors.
type Image struct {
	header
	ra       io.ReaderAt
	fileSize int64
	l1       []uint64
}

// Open judges the header and reads the first table (at most 32 MiB). ra stays
// the caller's; a disk of more than maxSize bytes is ErrTooLarge.
func Open(ra io.ReaderAt, fileSize int64, maxSize uint64) (*Image, error) {
	h, err := readHeader(ra, fileSize, maxSize)
	if err != nil {
		return nil, err
	}
	img := &Image{header: h, ra: ra, fileSize: fileSize}
	table := make([]byte, 8*int(h.l1Entries))
	if err := img.readFile(table, h.l1Offset); err != nil {
		return nil, fmt.Errorf("first table: %w", err)
	}
	img.l1 = decodeTable(table, make([]uint64, h.l1Entries))
	return img, nil
}

// Size of the disk in bytes.
func (img *Image) Size() int64 { return int64(img.size) }

func (img *Image) readFile(p []byte, off uint64) error {
	if off > uint64(img.fileSize) || uint64(len(p)) > uint64(img.fileSize)-off {
		return fmt.Errorf("%w: %d bytes at %d lie beyond the end of the file", ErrDamaged, len(p), off)
	}
	n, err := img.ra.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ended while it was read", ErrDamaged)
	}
	return fmt.Errorf("read qcow2 at %d: %w", off, err)
}

func decodeTable(raw []byte, table []uint64) []uint64 {
	for i := range table {
		table[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	return table
}

// Cursor reads an image; for one goroutine. It keeps one second table and one
// unpacked cluster.
type Cursor struct {
	img *Image

	l2At uint64 // place of the table in l2; 0 if none
	l2   []uint64
	raw  []byte // of the table, and of packed clusters

	clusterAt uint64 // entry of the unpacked cluster; 0 if none
	cluster   []byte
	inflate   io.ReadCloser
	zstd      *zstd.Decoder
}

// NewCursor is cheap until something is read. Close frees it.
func (img *Image) NewCursor() *Cursor { return &Cursor{img: img} }

// Close frees the decoder.
func (c *Cursor) Close() {
	if c.zstd != nil {
		c.zstd.Close()
	}
}

// ReadAt fills p from the disk at off. zero tells that nothing of it is stored,
// so that all of p is zero. Reading beyond the disk is io.EOF; all damage wraps
// ErrDamaged.
func (c *Cursor) ReadAt(p []byte, off int64) (zero bool, err error) {
	if off < 0 || uint64(off) > c.img.size || uint64(len(p)) > c.img.size-uint64(off) {
		return false, io.EOF
	}
	zero = true
	size := c.img.clusterSize()
	for len(p) > 0 {
		in := off & (size - 1)
		part := p[:min(int64(len(p)), size-in)]
		stored, err := c.readPart(part, uint64(off), in)
		if err != nil {
			return false, fmt.Errorf("disk at %d: %w", off, err)
		}
		zero = zero && !stored
		p, off = p[len(part):], off+int64(len(part))
	}
	return zero, nil
}

// readPart reads within one cluster, from its byte in on.
func (c *Cursor) readPart(p []byte, off uint64, in int64) (stored bool, err error) {
	entry, err := c.entry(off)
	if err != nil {
		return false, err
	}
	img := c.img
	if entry&compressedFlag != 0 {
		if err := c.unpack(entry); err != nil {
			return false, err
		}
		copy(p, c.cluster[in:])
		return true, nil
	}
	place := entry & offsetMask
	zero := entry&zeroFlag != 0
	if entry&^(copiedFlag|offsetMask|zeroFlag) != 0 || zero && img.version == 2 {
		return false, fmt.Errorf("%w: entry %#x has reserved bits", ErrDamaged, entry)
	}
	if place&uint64(img.clusterSize()-1) != 0 {
		return false, fmt.Errorf("%w: no cluster can begin at %d", ErrDamaged, place)
	}
	if zero || place == 0 {
		clear(p)
		return false, nil
	}
	return true, img.readFile(p, place+uint64(in))
}

// entry is the second table's for a place of the disk, 0 where there is none.
func (c *Cursor) entry(off uint64) (uint64, error) {
	img := c.img
	l2Bits := img.clusterBits - 3
	first := img.l1[off>>(img.clusterBits+l2Bits)]
	place := first & offsetMask
	if first&^(copiedFlag|offsetMask) != 0 || place&uint64(img.clusterSize()-1) != 0 {
		return 0, fmt.Errorf("%w: entry %#x of its first table", ErrDamaged, first)
	}
	if place == 0 {
		return 0, nil
	}
	if place != c.l2At {
		c.l2At = 0
		raw := c.scratch(int(img.clusterSize()))
		if err := img.readFile(raw, place); err != nil {
			return 0, fmt.Errorf("second table: %w", err)
		}
		if c.l2 == nil {
			c.l2 = make([]uint64, 1<<l2Bits)
		}
		decodeTable(raw, c.l2)
		c.l2At = place
	}
	return c.l2[off>>img.clusterBits&(1<<l2Bits-1)], nil
}

func (c *Cursor) scratch(n int) []byte {
	if cap(c.raw) < n {
		c.raw = make([]byte, n)
	}
	return c.raw[:n]
}

// unpack makes c.cluster what the entry of a compressed cluster stands for.
// The entry says where its bytes begin, and in how many sectors of 512 they
// end; what follows them in the last one belongs to others.
func (c *Cursor) unpack(entry uint64) error {
	if c.clusterAt == entry {
		return nil
	}
	c.clusterAt = 0
	img := c.img
	placeBits := 62 - (img.clusterBits - 8)
	body := entry &^ (copiedFlag | compressedFlag)
	place, sectors := body&(1<<placeBits-1), body>>placeBits
	length := (sectors+1)*512 - place%512
	if place == 0 || place >= uint64(img.fileSize) {
		return fmt.Errorf("%w: a compressed cluster lies at %d, beyond the end of the file", ErrDamaged, place)
	}
	// The last cluster of a file need not fill its last sector.
	packed := c.scratch(int(min(length, uint64(img.fileSize)-place)))
	if err := img.readFile(packed, place); err != nil {
		return err
	}
	if c.cluster == nil {
		c.cluster = make([]byte, img.clusterSize())
	}
	r, err := c.decoder(packed)
	if err == nil {
		_, err = io.ReadFull(r, c.cluster)
	}
	if err != nil {
		return fmt.Errorf("%w: compressed cluster at %d: %w", ErrDamaged, place, err)
	}
	c.clusterAt = entry
	return nil
}

func (c *Cursor) decoder(packed []byte) (io.Reader, error) {
	src := bytes.NewReader(packed)
	if c.img.zstd {
		if c.zstd == nil {
			dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				return nil, err
			}
			c.zstd = dec
		}
		return c.zstd, c.zstd.Reset(src)
	}
	if c.inflate == nil {
		c.inflate = flate.NewReader(src)
		return c.inflate, nil
	}
	return c.inflate, c.inflate.(flate.Resetter).Reset(src, nil)
}
