package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is wrapped by every error about a manifest's content, from Parse,
// Validate, Encode and Digest. Such an image must be imported again.
var ErrInvalid = errors.New("invalid image manifest")

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Validate checks every rule that the format has but the hashes themselves:
// limits, sizes that add up, and packed ranges that ascend without overlap.
func (m *Manifest) Validate() error {
	if m.Version != Version {
		return invalidf("version %d, this program knows version %d: use a newer one", m.Version, Version)
	}
	if err := m.validateHead(); err != nil {
		return err
	}
	if m.Boot != nil {
		if err := m.Boot.validate(m.Kind); err != nil {
			return err
		}
	}
	return m.validateFrames()
}

func (m *Manifest) validateHead() error {
	switch m.Kind {
	case KindDisk:
		if m.SectorSize != 512 && m.SectorSize != 4096 {
			return invalidf("sector size %d, want 512 or 4096", m.SectorSize)
		}
		if m.SizeBytes%uint64(m.SectorSize) != 0 {
			return invalidf("size of %d bytes is no multiple of the sector size %d", m.SizeBytes, m.SectorSize)
		}
	case KindTree:
		if m.SectorSize != 0 || m.Boot != nil {
			return invalidf("a tree has no sector size and no boot part")
		}
	default:
		return invalidf("kind %.20q, want %q or %q", m.Kind, KindDisk, KindTree)
	}
	if err := checkText("name", m.Name, 128); err != nil {
		return err
	}
	if !isArchitecture(m.Architecture) {
		return invalidf("architecture %.40q, want a word such as amd64 or arm64", m.Architecture)
	}
	if fs := m.FrameSizeBytes; fs < MinFrameSize || fs > MaxFrameSize || !isPowerOfTwo(fs) {
		return invalidf("frame size %d, want a power of two from %d to %d", fs, MinFrameSize, MaxFrameSize)
	}
	if m.SizeBytes == 0 {
		return invalidf("the image is empty")
	}
	return nil
}

func (m *Manifest) validateFrames() error {
	want := m.frameCount()
	if want > MaxFrames {
		return invalidf("%d frames, the limit is %d", want, MaxFrames)
	}
	if uint64(len(m.Frames)) != want {
		return invalidf("%d frames, a size of %d bytes takes %d", len(m.Frames), m.SizeBytes, want)
	}
	if m.PackedSizeBytes > 1<<62 {
		return invalidf("packed size %d is beyond reason", m.PackedSizeBytes)
	}
	var end uint64
	for i := range m.Frames {
		f := &m.Frames[i]
		if size := m.frameSize(i); f.Size != size {
			return invalidf("frame %d has %d bytes, want %d", i, f.Size, size)
		}
		if f.Zero {
			if *f != (Frame{Zero: true, Size: f.Size}) {
				return invalidf("frame %d is a hole and yet has packed bytes", i)
			}
			continue
		}
		if f.PackedSize == 0 || f.PackedSize > MaxPacked(f.Size) {
			return invalidf("frame %d takes %d bytes packed, want 1 to %d", i, f.PackedSize, MaxPacked(f.Size))
		}
		if f.Offset < end {
			return invalidf("frame %d starts at %d, inside the one before it", i, f.Offset)
		}
		// Compared without adding, so that a huge offset cannot wrap around.
		if f.Offset > m.PackedSizeBytes || uint64(f.PackedSize) > m.PackedSizeBytes-f.Offset {
			return invalidf("frame %d ends beyond the packed file of %d bytes", i, m.PackedSizeBytes)
		}
		end = f.Offset + uint64(f.PackedSize)
	}
	return nil
}

// frameCount needs a FrameSizeBytes that is not zero.
func (m *Manifest) frameCount() uint64 {
	fs := uint64(m.FrameSizeBytes)
	count := m.SizeBytes / fs
	if m.SizeBytes%fs != 0 {
		count++
	}
	return count
}

// frameSize is what frame i must hold: the last one has the rest.
func (m *Manifest) frameSize(i int) uint32 {
	fs := uint64(m.FrameSizeBytes)
	return uint32(min(fs, m.SizeBytes-uint64(i)*fs))
}

func (boot *Boot) validate(kind Kind) error {
	if kind != KindDisk {
		return invalidf("only a disk has a boot part")
	}
	switch boot.PartitionTable {
	case "", "gpt", "mbr":
	default:
		return invalidf("partition table %.20q, want gpt or mbr", boot.PartitionTable)
	}
	if boot.RootPartition > 1024 || boot.ESPPartition > 1024 {
		return invalidf("partition numbers %d and %d, the limit is 1024", boot.RootPartition, boot.ESPPartition)
	}
	if len(boot.Initrds) > 8 {
		return invalidf("%d initrds, the limit is 8", len(boot.Initrds))
	}
	paths := append([]string{boot.ESPLoader, boot.Kernel}, boot.Initrds...)
	for i, path := range paths {
		if path == "" && i < 2 {
			continue
		}
		if err := checkPath(path); err != nil {
			return err
		}
	}
	return checkText("cmdline", boot.Cmdline, 2048)
}

func checkPath(path string) error {
	if err := checkText("path", path, 512); err != nil {
		return err
	}
	if !strings.HasPrefix(path, "/") {
		return invalidf("path %.80q does not start with a slash", path)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return invalidf("path %.80q leads upwards", path)
		}
	}
	return nil
}

func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return invalidf("%s of %d characters, the limit is %d", what, len(s), limit)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return invalidf("%s %.80q has characters that are not printable ASCII", what, s)
		}
	}
	return nil
}

func isArchitecture(s string) bool {
	if s == "" || len(s) > 16 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
