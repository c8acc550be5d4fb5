package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Numbers of zstd's seekable format (zstd, contrib/seekable_format,
// zstd_seekable_compression_format.md, version 0.1.1).
const (
	skippableMagic = 0x184d2a5e
	seekableMagic  = 0x8f92eab1
	seekHeader     = 8
	seekFooter     = 9
)

// seekTable is the skippable frame at the end of the packed file, by which
// readers of the seekable format find the frames. Ours find those with data by
// the manifest, and only the holes by it.
type seekTable struct {
	entries []byte // compressed and decompressed size of each frame, 4 bytes each
}

func (t *seekTable) add(packed, content int) {
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(packed))
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(content))
}

func (t *seekTable) encode() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, skippableMagic)
	b = le.AppendUint32(b, uint32(len(t.entries)+seekFooter))
	b = append(b, t.entries...)
	b = le.AppendUint32(b, uint32(len(t.entries)/8))
	b = append(b, 0) // descriptor: no checksums
	return le.AppendUint32(b, seekableMagic)
}

// seekTableSize is what the table of so many frames takes.
func seekTableSize(frames int) int64 { return seekHeader + 8*int64(frames) + seekFooter }

// places says where every frame of a packed file begins, holes too, and where
// the seek table does: one more than there are frames.
type places []uint64

// readPlaces reads the seek table of a packed file. It must say the same as
// the manifest, or stock tools would read another disk from the file.
func readPlaces(packed io.ReaderAt, m *manifest.Manifest) (places, error) {
	size := seekTableSize(len(m.Frames))
	at := int64(m.PackedSizeBytes) - size
	if at < 0 {
		return nil, fmt.Errorf("%w: a packed file of %d bytes has no room for its seek table", ErrDamaged, m.PackedSizeBytes)
	}
	table := make([]byte, size)
	n, err := packed.ReadAt(table, at)
	switch {
	case n == len(table):
	case err == nil || errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: the file ends before its seek table does", ErrDamaged)
	default:
		return nil, fmt.Errorf("read seek table: %w", err)
	}
	return parseSeekTable(table, m)
}

// parseSeekTable judges a table of the right length for m, which is valid.
func parseSeekTable(table []byte, m *manifest.Manifest) (places, error) {
	le := binary.LittleEndian
	foot := len(table) - seekFooter
	if int64(len(table)) != seekTableSize(len(m.Frames)) ||
		le.Uint32(table) != skippableMagic || le.Uint32(table[4:]) != uint32(len(table)-seekHeader) ||
		le.Uint32(table[foot:]) != uint32(len(m.Frames)) || table[foot+4] != 0 || le.Uint32(table[foot+5:]) != seekableMagic {
		return nil, fmt.Errorf("%w: there is no seek table of %d frames at its end", ErrDamaged, len(m.Frames))
	}
	at := make(places, 0, len(m.Frames)+1)
	var next uint64
	for i := range m.Frames {
		f := &m.Frames[i]
		packed, content := le.Uint32(table[seekHeader+8*i:]), le.Uint32(table[seekHeader+8*i+4:])
		wrong := content != f.Size || packed == 0 || packed > manifest.MaxPacked(f.Size)
		if !f.Zero {
			wrong = wrong || next != f.Offset || packed != f.PackedSize
		}
		if wrong {
			return nil, fmt.Errorf("%w: its seek table and its manifest disagree about frame %d", ErrDamaged, i)
		}
		at = append(at, next)
		next += uint64(packed)
	}
	if next+uint64(len(table)) != m.PackedSizeBytes {
		return nil, fmt.Errorf("%w: its seek table speaks of %d bytes, the manifest of %d", ErrDamaged, next+uint64(len(table)), m.PackedSizeBytes)
	}
	return append(at, next), nil
}
