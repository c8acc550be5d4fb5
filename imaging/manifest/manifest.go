package manifest

import "math/bits"

// Version is the only version of the format that this package reads and writes.
const Version = 1

// Limits that Parse and Validate enforce. A manifest comes from the network, so
// nothing in it may make a reader allocate more than these allow.
const (
	// MaxBytes bounds the canonical bytes: about 350,000 frames with data.
	MaxBytes = 64 << 20
	// MaxFrames bounds the frames with and without data: 1 TiB at 1 MiB a frame.
	MaxFrames = 1 << 20
	// MinFrameSize and MaxFrameSize bound FrameSizeBytes, a power of two.
	MinFrameSize = 64 << 10
	MaxFrameSize = 16 << 20
	// DefaultFrameSize is what importers use unless told otherwise.
	DefaultFrameSize = 1 << 20
)

// Kind is what the frames hold when they are put together.
type Kind string

const (
	// KindDisk is a raw disk: byte n of the content is byte n of the disk.
	KindDisk Kind = "disk"
	// KindTree is a root tree as a tar stream; it has no sectors and no boot part.
	KindTree Kind = "tree"
)

// Manifest describes one image. It is a value: build it, Validate it, and do
// not change it once its Digest is known.
type Manifest struct {
	Version         int
	Kind            Kind
	Name            string // for people only, at most 128 printable ASCII characters; may be empty
	Architecture    string // Debian's word: amd64, arm64 …
	SectorSize      uint32 // logical sector the partition table was made for: 512 or 4096; 0 for a tree
	SizeBytes       uint64 // of the content; for a disk a multiple of SectorSize
	FrameSizeBytes  uint32 // content bytes in every frame but the last
	PackedSizeBytes uint64 // length of the packed file, hole frames and seek table included
	Boot            *Boot  // nil when nothing is known; an empty one is written as none
	Frames          []Frame
}

// Frame is one piece of the content. Frame i covers the content bytes from
// i*FrameSizeBytes on.
type Frame struct {
	// Zero marks a hole: Size bytes that must read as zero. Its other fields
	// besides Size are zero. (The packed file does hold a few dozen bytes for
	// it, so that any zstd decoder yields the whole disk; nobody fetches them.)
	Zero         bool
	Size         uint32 // content bytes
	Offset       uint64 // of the packed bytes in the packed file
	PackedSize   uint32 // at most MaxPacked(Size)
	PackedSHA256 Hash   // of the packed bytes
	XXH3         uint64 // of the content, 64 bits, seed 0
	SHA256       Hash   // of the content
}

// Boot tells how the installed system is started. Every member may be empty,
// which means unknown: whoever needs it then looks on the written disk.
type Boot struct {
	PartitionTable string   // "gpt" or "mbr"
	RootPartition  uint32   // number in the table, counted from 1
	ESPPartition   uint32   // number in the table, counted from 1
	ESPLoader      string   // path on the ESP with slashes, for example /EFI/debian/shimx64.efi
	Kernel         string   // path on the root partition, for kexec
	Initrds        []string // paths on the root partition, in the order to load, at most 8
	Cmdline        string   // kernel command line, at most 2048 characters
}

// MaxPacked is the most that a frame of size content bytes may take packed. It
// is what zstd needs at worst for data that does not compress.
func MaxPacked(size uint32) uint32 { return size + size>>8 + 64 }

// FrameOffset is where frame i starts in the content, in bytes.
func (m *Manifest) FrameOffset(i int) int64 { return int64(i) * int64(m.FrameSizeBytes) }

// DataBytes is how many content bytes lie in frames that are no holes.
func (m *Manifest) DataBytes() uint64 {
	var n uint64
	for i := range m.Frames {
		if !m.Frames[i].Zero {
			n += uint64(m.Frames[i].Size)
		}
	}
	return n
}

// FetchBytes is how many packed bytes have to be fetched for the whole image.
func (m *Manifest) FetchBytes() uint64 {
	var n uint64
	for i := range m.Frames {
		n += uint64(m.Frames[i].PackedSize)
	}
	return n
}

func isPowerOfTwo(n uint32) bool { return bits.OnesCount32(n) == 1 }
