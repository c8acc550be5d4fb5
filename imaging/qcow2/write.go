package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// What the writer makes: clusters of 64 KiB and refcounts of 16 bits, QEMU's own
// choice.
const (
	writeBits    = 16
	writeCluster = 1 << writeBits
	perL2        = writeCluster / 8 // entries of a second table
	perBlock     = writeCluster / 2 // refcounts of a block
)

// Writer writes a version 3 image from its start to its end, without seeking:
// which parts have data is known beforehand, so the tables come first and the
// clusters follow, plain. Parts without data take no room.
type Writer struct {
	w     io.Writer
	parts []int // bytes of each part with data that is still to come
}

// NewWriter writes the header and the tables of a disk of size bytes, cut into
// parts of part bytes, a multiple of 64 KiB. has tells which parts have data.
// Write then takes those, in order.
func NewWriter(w io.Writer, size int64, part int, has func(i int) bool) (*Writer, error) {
	if size <= 0 || part <= 0 || part%writeCluster != 0 {
		return nil, fmt.Errorf("write qcow2: a disk of %d bytes in parts of %d", size, part)
	}
	out := &Writer{w: w}
	var data []int64 // first cluster of each part with data
	for i := 0; int64(i)*int64(part) < size; i++ {
		if at := int64(i) * int64(part); has(i) {
			data = append(data, at/writeCluster)
			out.parts = append(out.parts, int(min(int64(part), size-at)))
		}
	}
	l := newLayout(size, data, out.parts)
	for _, write := range []func(io.Writer) error{l.header, l.refcounts, l.tables} {
		if err := write(w); err != nil {
			return nil, fmt.Errorf("write qcow2: %w", err)
		}
	}
	return out, nil
}

// Write takes all bytes of the next part with data.
func (w *Writer) Write(p []byte) (int, error) {
	if len(w.parts) == 0 || len(p) != w.parts[0] {
		return 0, errors.New("write qcow2: this is not the part that comes next")
	}
	w.parts = w.parts[1:]
	n, err := w.w.Write(p)
	if err == nil && len(p)%writeCluster != 0 {
		_, err = w.w.Write(make([]byte, writeCluster-len(p)%writeCluster))
	}
	return n, err
}

// Close makes sure that every part came. It does not close what was written to.
func (w *Writer) Close() error {
	if len(w.parts) != 0 {
		return fmt.Errorf("write qcow2: %d parts did not come", len(w.parts))
	}
	return nil
}

// layout is where everything lies, in clusters:
//
//	header | refcount table | refcount blocks | L1 | L2 ... | data ...
type layout struct {
	size                      int64
	first, count              []int64 // disk clusters of each part with data
	data                      int64   // clusters with data in all
	l1Entries                 int64
	l2                        []int64 // L1 indices that have a second table
	reftable, blocks, l1, l2s int64   // clusters of each
}

func newLayout(size int64, first []int64, parts []int) *layout {
	l := &layout{size: size, first: first}
	for _, n := range parts {
		l.count = append(l.count, clusters(int64(n)))
		l.data += clusters(int64(n))
	}
	l.l1Entries = (clusters(size) + perL2 - 1) / perL2
	for c := range l.disk() {
		if n := len(l.l2); n == 0 || l.l2[n-1] != c/perL2 {
			l.l2 = append(l.l2, c/perL2)
		}
	}
	l.l1, l.l2s = clusters(l.l1Entries*8), int64(len(l.l2))
	// More blocks count themselves too, so they are added until they suffice.
	for l.blocks*perBlock < l.total() {
		l.blocks++
		l.reftable = clusters(l.blocks * 8)
	}
	return l
}

// disk gives the clusters of the disk that have data, in order.
func (l *layout) disk() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for i, first := range l.first {
			for c := first; c < first+l.count[i]; c++ {
				if !yield(c) {
					return
				}
			}
		}
	}
}

func clusters(bytes int64) int64 { return (bytes + writeCluster - 1) / writeCluster }

func (l *layout) l1At() int64   { return 1 + l.reftable + l.blocks }
func (l *layout) l2At() int64   { return l.l1At() + l.l1 }
func (l *layout) dataAt() int64 { return l.l2At() + l.l2s }
func (l *layout) total() int64  { return l.dataAt() + l.data }

func (l *layout) header(w io.Writer) error {
	b := make([]byte, writeCluster) // an end mark of header extensions is all zero
	be := binary.BigEndian
	copy(b, Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], writeBits)
	be.PutUint64(b[24:], uint64(l.size))
	be.PutUint32(b[36:], uint32(l.l1Entries))
	be.PutUint64(b[40:], uint64(l.l1At())*writeCluster)
	be.PutUint64(b[48:], writeCluster)
	be.PutUint32(b[56:], uint32(l.reftable))
	be.PutUint32(b[96:], 4) // refcounts of 2^4 bits
	be.PutUint32(b[100:], headerV3)
	_, err := w.Write(b)
	return err
}

// refcounts writes the table and its blocks: every cluster is used once.
func (l *layout) refcounts(w io.Writer) error {
	b := make([]byte, l.reftable*writeCluster)
	for i := range l.blocks {
		binary.BigEndian.PutUint64(b[8*i:], uint64(1+l.reftable+i)*writeCluster)
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	left, block := l.total(), make([]byte, writeCluster)
	for range l.blocks {
		clear(block)
		for i := range min(left, perBlock) {
			binary.BigEndian.PutUint16(block[2*i:], 1)
		}
		left -= min(left, perBlock)
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// tables writes the first table and the second ones.
func (l *layout) tables(w io.Writer) error {
	b := make([]byte, l.l1*writeCluster)
	for i, entry := range l.l2 {
		binary.BigEndian.PutUint64(b[8*entry:], uint64(l.l2At()+int64(i))*writeCluster|copiedFlag)
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	table, at, place := make([]byte, writeCluster), int64(-1), l.dataAt()*writeCluster
	for c := range l.disk() {
		if at >= 0 && c/perL2 != at {
			if _, err := w.Write(table); err != nil {
				return err
			}
			clear(table)
		}
		at = c / perL2
		binary.BigEndian.PutUint64(table[8*(c%perL2):], uint64(place)|copiedFlag)
		place += writeCluster
	}
	if at < 0 {
		return nil // nothing but zeros
	}
	_, err := w.Write(table)
	return err
}
