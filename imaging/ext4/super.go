package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// Errors of Open. Each means that nothing may be trimmed.
var (
	// ErrNotExt4: there is no such filesystem.
	ErrNotExt4 = errors.New("no ext4 filesystem")
	// ErrDirty: it was not unmounted cleanly, or has errors.
	ErrDirty = errors.New("the filesystem is not clean")
	// ErrUnsupported: a feature that is not known here.
	ErrUnsupported = errors.New("not supported")
	// ErrDamaged: its own numbers disagree.
	ErrDamaged = errors.New("the filesystem is damaged")
)

// Place of the superblock and its fields that matter here.
const (
	superAt    = 1024
	superBytes = 1024
	superMagic = 0xef53
)

// Features by their bits. Those that are missing here are refused.
const (
	incompatRecover  = 0x4
	incompat64Bit    = 0x80
	incompatCsumSeed = 0x2000
	incompatKnown    = 0x2 /* filetype */ | 0x40 /* extents */ | incompat64Bit | 0x200 /* flex_bg */ | 0x400 /* ea_inode */ |
		incompatCsumSeed | 0x4000 /* largedir */ | 0x8000 /* inline_data */ | 0x10000 /* encrypt */ | 0x20000 /* casefold */
	roGdtCsum      = 0x10
	roMetadataCsum = 0x400
	roOrphans      = 0x10000
	roKnown        = 0x1 /* sparse_super */ | 0x2 /* large_file */ | 0x4 /* btree_dir */ | 0x8 /* huge_file */ | roGdtCsum |
		0x20 /* dir_nlink */ | 0x40 /* extra_isize */ | 0x100 /* quota */ | roMetadataCsum | 0x2000 /* project */ | 0x8000 /* verity */
)

// names of features that are met and refused.
var (
	incompatNames = map[uint32]string{0x1: "compression", 0x8: "an external journal's own device", 0x10: "meta_bg", 0x100: "mmp", 0x1000: "dirdata"}
	roNames       = map[uint32]string{0x80: "snapshots", 0x200: "bigalloc", 0x800: "replica", 0x1000: "readonly", 0x4000: "shared_blocks"}
)

// super is what of the superblock is needed.
type super struct {
	blockSize  int64
	blocks     uint64
	free       uint64
	first      uint64 // first data block: 1 with blocks of 1 KiB, otherwise 0
	perGroup   uint64 // blocks
	descSize   int64
	checksums  bool // crc32c of all metadata
	seed       uint32
	groupCount uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc is crc32c as the kernel uses it, without inverting the result.
func crc(seed uint32, p []byte) uint32 { return ^crc32.Update(^seed, castagnoli, p) }

// parseSuper judges a superblock of a filesystem that may take size bytes.
func parseSuper(b []byte, size int64) (super, error) {
	le := binary.LittleEndian
	if len(b) < superBytes || le.Uint16(b[0x38:]) != superMagic {
		return super{}, ErrNotExt4
	}
	incompat, ro := le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	s := super{
		blocks: uint64(le.Uint32(b[0x4:])), free: uint64(le.Uint32(b[0xc:])), first: uint64(le.Uint32(b[0x14:])),
		perGroup: uint64(le.Uint32(b[0x20:])), descSize: 32, checksums: ro&roMetadataCsum != 0,
	}
	if err := checkState(b, incompat, ro); err != nil {
		return s, err
	}
	if s.checksums && crc(^uint32(0), b[:0x3fc]) != le.Uint32(b[0x3fc:]) {
		return s, fmt.Errorf("%w: the checksum of its superblock is wrong", ErrDamaged)
	}
	if incompat&incompat64Bit != 0 {
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
		s.free |= uint64(le.Uint32(b[0x158:])) << 32
		s.descSize = int64(le.Uint16(b[0xfe:]))
	}
	if s.seed = le.Uint32(b[0x270:]); incompat&incompatCsumSeed == 0 {
		s.seed = crc(^uint32(0), b[0x68:0x78])
	}
	return s, s.geometry(le.Uint32(b[0x18:]), le.Uint32(b[0x1c:]), size)
}

// checkState refuses what is not at rest, and features by name.
func checkState(b []byte, incompat, ro uint32) error {
	le := binary.LittleEndian
	state := le.Uint16(b[0x3a:])
	switch {
	case incompat&incompatRecover != 0:
		return fmt.Errorf("%w: its journal has to be replayed first (mount it once, or e2fsck)", ErrDirty)
	case state&1 == 0:
		return fmt.Errorf("%w: it was not unmounted", ErrDirty)
	case state&^1 != 0:
		return fmt.Errorf("%w: it is marked as having errors", ErrDirty)
	case le.Uint32(b[0xe8:]) != 0 || ro&roOrphans != 0:
		return fmt.Errorf("%w: it has deleted files that are not gone yet", ErrDirty)
	case le.Uint32(b[0x4c:]) > 1:
		return fmt.Errorf("revision %d: %w", le.Uint32(b[0x4c:]), ErrUnsupported)
	}
	if unknown := incompat &^ incompatKnown; unknown != 0 {
		return unsupported("incompatible", unknown, incompatNames)
	}
	if unknown := ro &^ roKnown; unknown != 0 {
		return unsupported("read-only compatible", unknown, roNames)
	}
	return nil
}

func unsupported(kind string, unknown uint32, names map[uint32]string) error {
	bit := uint32(1) << bits.TrailingZeros32(unknown)
	name := names[bit]
	if name == "" {
		name = fmt.Sprintf("%#x", bit)
	}
	return fmt.Errorf("%s feature %s: %w", kind, name, ErrUnsupported)
}

// geometry bounds everything that is computed from the superblock.
func (s *super) geometry(logBlock, logCluster uint32, size int64) error {
	if logBlock > 6 || logCluster != logBlock {
		return fmt.Errorf("%w: blocks of 2^%d KiB in clusters of 2^%d", ErrDamaged, logBlock, logCluster)
	}
	s.blockSize = 1024 << logBlock
	first := uint64(0)
	if logBlock == 0 {
		first = 1
	}
	switch {
	case s.first != first || s.blocks <= s.first || s.free > s.blocks:
		return fmt.Errorf("%w: %d blocks from %d on, %d of them free", ErrDamaged, s.blocks, s.first, s.free)
	case s.blocks > uint64(size/s.blockSize):
		return fmt.Errorf("%w: %d blocks of %d bytes do not fit into %d bytes", ErrDamaged, s.blocks, s.blockSize, size)
	case s.perGroup == 0 || s.perGroup > uint64(8*s.blockSize) || s.perGroup%8 != 0:
		return fmt.Errorf("%w: groups of %d blocks", ErrDamaged, s.perGroup)
	case s.descSize < 32 || s.descSize > 1024 || s.descSize&(s.descSize-1) != 0:
		return fmt.Errorf("%w: group descriptors of %d bytes", ErrDamaged, s.descSize)
	}
	s.groupCount = (s.blocks - s.first + s.perGroup - 1) / s.perGroup
	// A filesystem of groups of 8 blocks would be mostly descriptors; none is
	// made like that, and its table would not be bounded.
	if s.groupCount > 1<<20 {
		return fmt.Errorf("%w: %d groups", ErrDamaged, s.groupCount)
	}
	return nil
}
