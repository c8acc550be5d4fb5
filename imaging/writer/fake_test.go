package writer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

const testFrame = manifest.MinFrameSize

// image is content, packed file and manifest.
type image struct {
	content []byte
	packed  []byte
	m       *manifest.Manifest
}

// newImage makes frames by a pattern: 'd' data, 'r' data that does not
// compress, '=' the same as before it, '.' a hole; tail bytes of data follow.
func newImage(t testing.TB, pattern string, tail, sectorSize int) image {
	t.Helper()
	enc, err := codec.NewFrameEncoder(testFrame)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(pattern))))
	img := image{content: make([]byte, len(pattern)*testFrame+tail)}
	for i := 0; i < len(img.content); i += 8 {
		switch n := i / testFrame; {
		case n == len(pattern) || pattern[n] == 'd':
			binary.LittleEndian.PutUint64(img.content[i:], rng.Uint64()&0x0f0f0f0f0f0f0f0f|0x1010101010101010)
		case pattern[n] == 'r':
			binary.LittleEndian.PutUint64(img.content[i:], rng.Uint64())
		case pattern[n] == '=':
			copy(img.content[i:i+8], img.content[i-testFrame:])
		}
	}
	img.m = &manifest.Manifest{
		Version: 1, Kind: manifest.KindDisk, Architecture: "amd64", SectorSize: uint32(sectorSize),
		SizeBytes: uint64(len(img.content)), FrameSizeBytes: testFrame,
	}
	var last, before []byte
	for piece := range slices.Chunk(img.content, testFrame) {
		if last == nil || !bytes.Equal(piece, before) { // packing is slow with the race detector
			last, before = enc.Encode(piece, nil), piece
		}
		packed := last
		f := manifest.Frame{Size: uint32(len(piece)), Zero: manifest.IsHole(piece)}
		if !f.Zero {
			f.Offset, f.PackedSize = uint64(len(img.packed)), uint32(len(packed))
			f.PackedSHA256, f.SHA256, f.XXH3 = manifest.Sum(packed), manifest.Sum(piece), xxh3.Hash(piece)
		}
		img.packed = append(img.packed, packed...)
		img.m.Frames = append(img.m.Frames, f)
	}
	img.m.PackedSizeBytes = uint64(len(img.packed))
	if err := img.m.Validate(); err != nil {
		t.Fatal(err)
	}
	return img
}

// disk is a Target in memory that can be dirty, lie, break and lose power.
type disk struct {
	sectorSize int

	mu        sync.Mutex // guards the fields below
	data      []byte     // as read
	flushed   []byte     // what a power cut leaves
	badWrite  int64      // sector that cannot be written; -1: none
	badRead   int64      // sector that cannot be read; -1: none
	flip      int64      // byte that reads back wrong; -1: none
	zeroLies  bool       // ZeroRange does nothing and says it did
	zeroErr   error
	flushErr  error
	writes    int
	zeroCalls int
	onWrite   func(n int) // called with the number of writes so far
}

var errMedium = errors.New("medium error")

// newDisk is full of old data.
func newDisk(size int64, sectorSize int) *disk {
	d := &disk{sectorSize: sectorSize, badWrite: -1, badRead: -1, flip: -1}
	d.data = bytes.Repeat([]byte{0xee}, int(size))
	d.flushed = bytes.Clone(d.data)
	return d
}

func (d *disk) Size() int64      { return int64(len(d.data)) }
func (d *disk) SectorSize() int  { return d.sectorSize }
func (d *disk) DropCache() error { return nil }

func (d *disk) hits(sector, off int64, n int) bool {
	at := sector * int64(d.sectorSize)
	return sector >= 0 && at < off+int64(n) && off < at+int64(d.sectorSize)
}

func (d *disk) aligned(off int64, n int) bool {
	return off%int64(d.sectorSize) == 0 && n%d.sectorSize == 0
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.aligned(off, len(p)) {
		return 0, errors.New("unaligned read")
	}
	if d.hits(d.badRead, off, len(p)) {
		return 0, errMedium
	}
	n := copy(p, d.data[off:])
	if d.flip >= off && d.flip < off+int64(n) {
		p[d.flip-off] ^= 1
	}
	return n, nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.aligned(off, len(p)) {
		return 0, errors.New("unaligned write")
	}
	if d.hits(d.badWrite, off, len(p)) {
		return 0, errMedium
	}
	if off+int64(len(p)) > int64(len(d.data)) {
		return 0, io.ErrShortWrite
	}
	d.writes++
	if d.onWrite != nil {
		d.onWrite(d.writes)
	}
	return copy(d.data[off:], p), nil
}

func (d *disk) ZeroRange(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zeroCalls++
	if d.zeroErr != nil {
		return d.zeroErr
	}
	if !d.zeroLies {
		clear(d.data[off : off+n])
	}
	return nil
}

func (d *disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flushErr != nil {
		return d.flushErr
	}
	copy(d.flushed, d.data)
	return nil
}

// cutPower loses what was not flushed, except for some of it.
func (d *disk) cutPower(seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 2))
	for off := 0; off < len(d.data); off += 4096 {
		if rng.IntN(2) == 0 {
			copy(d.data[off:off+4096], d.flushed[off:off+4096])
		}
	}
}

// source serves a packed file, and misbehaves as told.
type source struct {
	packed []byte

	mu       sync.Mutex
	asked    int
	suspects int
	wrongAt  int64 // byte that is delivered wrong
	wrongFor int   // for so many requests that cover it
	endAt    int64 // the reader ends quietly at this byte of the file; -1: never
	failAt   int64 // the reader fails at this byte of the file; -1: never
}

var errGone = errors.New("source is gone")

func newSource(img image) *source {
	return &source{packed: img.packed, wrongAt: -1, endAt: -1, failAt: -1}
}

func (s *source) Suspect(offset, length int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
}

func (s *source) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data := s.packed[offset : offset+length]
	if s.wrongFor > 0 && s.wrongAt >= offset && s.wrongAt < offset+length {
		s.wrongFor--
		data = bytes.Clone(data)
		data[s.wrongAt-offset] ^= 1
	}
	var tail io.Reader = bytes.NewReader(nil)
	for _, end := range []int64{s.endAt, s.failAt} {
		if end >= 0 && end < offset+length {
			data = data[:max(end-offset, 0)]
			if end == s.failAt {
				tail = failing{}
			}
		}
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(data), tail)), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errGone }
