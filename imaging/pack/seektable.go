package pack

import "encoding/binary"

// Numbers of zstd's seekable format (zstd, contrib/seekable_format,
// zstd_seekable_compression_format.md, version 0.1.1).
const (
	skippableMagic = 0x184d2a5e
	seekableMagic  = 0x8f92eab1
	seekFooter     = 9
)

// seekTable is the skippable frame at the end of the packed file, by which
// readers of the seekable format find the frames. Ours find them by the
// manifest.
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
