package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// Errors by which a caller can tell what is wrong with a file.
var (
	// ErrNotQCOW2: the file does not start like one.
	ErrNotQCOW2 = errors.New("it does not start like qcow2")
	// ErrUnsupported: a feature that is refused.
	ErrUnsupported = errors.New("not supported")
	// ErrTooLarge: the disk is larger than the caller allows.
	ErrTooLarge = errors.New("the disk is larger than allowed")
	// ErrDamaged: cut off, or tables that cannot be right.
	ErrDamaged = errors.New("the qcow2 file is damaged or cut off")
)

// Magic is what a qcow2 file starts with.
const Magic = "QFI\xfb"

// Sizes and limits of the header and its tables.
const (
	headerV2       = 72
	headerV3       = 104
	minClusterBits = 9
	maxClusterBits = 21       // QEMU takes no more either
	maxL1Entries   = 32 << 17 // 32 MiB of them, QEMU's limit
)

// Incompatible feature bits of version 3.
const (
	dirtyBit       = 0 // the refcounts may be wrong; the mapping is good
	corruptBit     = 1
	externalBit    = 2
	compressionBit = 3
	extendedL2Bit  = 4
)

const flatten = "convert it first (qemu-img convert -O qcow2 OLD NEW)"

// header is what of the file's header matters for reading.
type header struct {
	version     uint32
	clusterBits uint
	size        uint64 // of the disk, in bytes
	l1Entries   uint32
	l1Offset    uint64
	zstd        bool // of compressed clusters; otherwise raw deflate
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// readHeader judges a file of fileSize bytes by its header alone.
func readHeader(ra io.ReaderAt, fileSize int64, maxSize uint64) (header, error) {
	var raw [headerV3 + 8]byte
	n, err := ra.ReadAt(raw[:min(int64(len(raw)), max(fileSize, 0))], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("read qcow2 header: %w", err)
	}
	if n < 4 || string(raw[:4]) != Magic {
		return header{}, ErrNotQCOW2
	}
	be := binary.BigEndian
	h := header{version: be.Uint32(raw[4:])}
	switch {
	case n < 8 || h.version >= 2 && n < headerV2 || h.version == 3 && n < headerV3:
		return h, fmt.Errorf("%w: its header ends after %d bytes", ErrDamaged, n)
	case h.version != 2 && h.version != 3:
		return h, fmt.Errorf("qcow2 version %d: %w: %s", h.version, ErrUnsupported, flatten)
	case be.Uint64(raw[8:]) != 0:
		return h, fmt.Errorf("qcow2 with a backing file: %w: flatten it first (qemu-img convert -O qcow2 OLD NEW)", ErrUnsupported)
	case be.Uint32(raw[32:]) != 0:
		return h, fmt.Errorf("encrypted qcow2: %w: decrypt it first (qemu-img convert)", ErrUnsupported)
	}
	clusterBits := be.Uint32(raw[20:])
	if clusterBits < minClusterBits || clusterBits > maxClusterBits {
		return h, fmt.Errorf("%w: clusters of 2^%d bytes, want 2^%d to 2^%d", ErrDamaged, clusterBits, minClusterBits, maxClusterBits)
	}
	h.clusterBits = uint(clusterBits)
	if h.size = be.Uint64(raw[24:]); h.size > maxSize {
		return h, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, h.size, maxSize)
	}
	if h.version == 3 {
		if err := h.features(be.Uint64(raw[72:]), be.Uint32(raw[100:]), raw[headerV3], n > headerV3); err != nil {
			return h, err
		}
	}
	h.l1Entries, h.l1Offset = be.Uint32(raw[36:]), be.Uint64(raw[40:])
	return h, h.checkL1(fileSize)
}

// features judges the fields that version 3 added. The compression type is
// there only if the header is long enough for it.
func (h *header) features(incompatible uint64, length uint32, compression byte, present bool) error {
	if length < headerV3 || length%8 != 0 || int64(length) > h.clusterSize() {
		return fmt.Errorf("%w: its header says to be %d bytes long", ErrDamaged, length)
	}
	if length == headerV3 || !present {
		compression = 0
	}
	switch {
	case incompatible&(1<<corruptBit) != 0:
		return fmt.Errorf("%w: it is marked as corrupt: repair it (qemu-img check -r all)", ErrDamaged)
	case incompatible&(1<<externalBit) != 0:
		return fmt.Errorf("qcow2 with an external data file: %w: %s", ErrUnsupported, flatten)
	case incompatible&(1<<extendedL2Bit) != 0:
		return fmt.Errorf("qcow2 with extended L2 entries (subclusters): %w: %s", ErrUnsupported, flatten)
	case incompatible&^(1<<dirtyBit|1<<compressionBit) != 0:
		return fmt.Errorf("qcow2 with the unknown incompatible feature of bit %d: %w: %s",
			bits.TrailingZeros64(incompatible&^(1<<dirtyBit|1<<compressionBit)), ErrUnsupported, flatten)
	case compression > 1:
		return fmt.Errorf("qcow2 with compression type %d: %w: %s", compression, ErrUnsupported, flatten)
	case (compression != 0) != (incompatible&(1<<compressionBit) != 0):
		return fmt.Errorf("%w: its compression type %d and its feature bits disagree", ErrDamaged, compression)
	}
	h.zstd = compression == 1
	return nil
}

// checkL1 bounds the first table. One entry maps 2^(2*clusterBits-3) bytes, and
// none is needed beyond the disk; a disk that was made smaller may have more.
func (h *header) checkL1(fileSize int64) error {
	perEntry := uint64(1) << (2*h.clusterBits - 3)
	need := (h.size + perEntry - 1) / perEntry
	switch {
	case uint64(h.l1Entries) < need:
		return fmt.Errorf("%w: its first table has %d entries, a disk of %d bytes needs %d", ErrDamaged, h.l1Entries, h.size, need)
	case h.l1Entries > maxL1Entries && need <= maxL1Entries:
		return fmt.Errorf("%w: its first table has %d entries, no more than %d are made", ErrDamaged, h.l1Entries, maxL1Entries)
	case need > maxL1Entries:
		return fmt.Errorf("qcow2 with clusters of %d bytes for a disk of %d bytes: %w: %s with larger clusters", h.clusterSize(), h.size, ErrUnsupported, flatten)
	}
	h.l1Entries = uint32(need)
	if need == 0 {
		return nil
	}
	if h.l1Offset == 0 || h.l1Offset%uint64(h.clusterSize()) != 0 {
		return fmt.Errorf("%w: its first table cannot lie at %d", ErrDamaged, h.l1Offset)
	}
	if end := need * 8; h.l1Offset > uint64(fileSize) || end > uint64(fileSize)-h.l1Offset {
		return fmt.Errorf("%w: its first table lies beyond the end of the file", ErrDamaged)
	}
	return nil
}
