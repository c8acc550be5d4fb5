package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader/image"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"
)

const qcowMagic = "QFI\xfb"

// Incompatible feature bits of qcow2 version 3 (QEMU, docs/interop/qcow2.txt).
const (
	qcowDirty        = 1 << 0 // refcounts only; the mapping is good
	qcowCorrupt      = 1 << 1
	qcowExternalData = 1 << 2
	qcowCompression  = 1 << 3
)

// registerZstd tells the library's table of decompressors, which it keeps for
// the whole program, about zstd.
var registerZstd = sync.OnceFunc(func() {
	qcow2.SetDecompressor(qcow2.CompressionTypeZstd, func(r io.Reader) (io.ReadCloser, error) {
		dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	})
})

// openQCOW2 refuses by the header alone what the library would open other
// files or take gigabytes of memory for.
func openQCOW2(ra io.ReaderAt, size int64, maxSize uint64) (content, error) {
	if err := checkQCOW2(ra, size, maxSize); err != nil {
		return nil, err
	}
	registerZstd()
	// Hiding the file's name keeps the library from resolving paths.
	hidden := struct{ io.ReaderAt }{ra}
	img, err := guardOpen(hidden)
	if err != nil {
		return nil, fmt.Errorf("%w: open qcow2: %w", ErrDamaged, err)
	}
	return &qcowContent{img: img, size: img.Size()}, nil
}

func checkQCOW2(ra io.ReaderAt, fileSize int64, maxSize uint64) error {
	var h [104]byte
	n, err := ra.ReadAt(h[:], 0)
	if n < 72 {
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read image: %w", err)
		}
		return fmt.Errorf("%w: it is too short for qcow2", ErrFormat)
	}
	if string(h[:4]) != qcowMagic {
		return fmt.Errorf("%w: stated is qcow2, but it does not start like one", ErrFormat)
	}
	be := binary.BigEndian
	version, backing, clusterBits := be.Uint32(h[4:]), be.Uint64(h[8:]), be.Uint32(h[20:])
	size, crypt, l1Size, l1Offset := be.Uint64(h[24:]), be.Uint32(h[32:]), be.Uint32(h[36:]), be.Uint64(h[40:])
	switch {
	case version != 2 && version != 3:
		return fmt.Errorf("qcow2 version %d: %w", version, ErrUnsupported)
	case version == 3 && n < len(h):
		return fmt.Errorf("%w: its header is cut off", ErrDamaged)
	case backing != 0:
		return fmt.Errorf("qcow2 with a backing file: %w: flatten it first (qemu-img convert -O qcow2 OLD NEW)", ErrUnsupported)
	case crypt != 0:
		return fmt.Errorf("encrypted qcow2: %w: decrypt it first (qemu-img convert)", ErrUnsupported)
	case clusterBits < 9 || clusterBits > 21:
		return fmt.Errorf("%w: clusters of 2^%d bytes", ErrDamaged, clusterBits)
	case size > maxSize:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, maxSize)
	}
	if version == 3 {
		if err := checkFeatures(be.Uint64(h[72:])); err != nil {
			return err
		}
	}
	// One L1 entry maps 2^(2*clusterBits-3) bytes, and none is needed beyond the
	// disk. (The format allows a longer table; QEMU does not make one.)
	perEntry := uint64(1) << (2*clusterBits - 3)
	need := (size + perEntry - 1) / perEntry
	if uint64(l1Size) < need || uint64(l1Size) > need+64 {
		return fmt.Errorf("%w: its first table has %d entries, a disk of %d bytes needs %d", ErrDamaged, l1Size, size, need)
	}
	if l1Size > 0 && (l1Offset > uint64(fileSize) || uint64(l1Size)*8 > uint64(fileSize)-l1Offset) {
		return fmt.Errorf("%w: its first table lies beyond the end of the file", ErrDamaged)
	}
	return nil
}

func checkFeatures(bits uint64) error {
	switch {
	case bits&qcowCorrupt != 0:
		return fmt.Errorf("%w: it is marked as corrupt (qemu-img check -r all)", ErrDamaged)
	case bits&qcowExternalData != 0:
		return fmt.Errorf("qcow2 with an external data file: %w: convert it first (qemu-img convert -O qcow2 OLD NEW)", ErrUnsupported)
	case bits&^(qcowDirty|qcowCompression) != 0:
		return fmt.Errorf("qcow2 with the incompatible features %#x: %w: convert it first (qemu-img convert -O qcow2 OLD NEW)", bits, ErrUnsupported)
	}
	return nil
}

type qcowContent struct {
	img  *qcow2.Qcow2
	size int64
	at   int64
}

func (q *qcowContent) total() int64 { return q.size }

func (q *qcowContent) next(buf []byte) (n int, zero bool, err error) {
	// The tables of the file are hostile; a mistake of the library about them
	// must not end the program.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: read qcow2 at %d: %v", ErrDamaged, q.at, p)
		}
	}()
	left := q.size - q.at
	if left <= 0 {
		return 0, false, io.EOF
	}
	buf = buf[:min(int64(len(buf)), left)]
	zero = true
	for n < len(buf) {
		ext, err := q.img.Extent(q.at+int64(n), int64(len(buf)-n))
		if err != nil {
			return n, false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		length := int(min(ext.Length, int64(len(buf)-n)))
		if length <= 0 {
			return n, false, fmt.Errorf("%w: empty extent at %d", ErrDamaged, q.at+int64(n))
		}
		part := buf[n : n+length]
		if ext.Zero {
			clear(part)
		} else {
			zero = false
			if err := q.readFull(part, q.at+int64(n)); err != nil {
				return n, false, err
			}
		}
		n += length
	}
	q.at += int64(n)
	return n, zero, nil
}

func (q *qcowContent) readFull(p []byte, off int64) error {
	n, err := q.img.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: read qcow2 at %d: %w", ErrDamaged, off+int64(n), err)
}

func (q *qcowContent) Close() error { return q.img.Close() }

func guardOpen(ra io.ReaderAt) (img *qcow2.Qcow2, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	refuse := func(io.ReaderAt, image.Type) (image.Image, error) { return nil, ErrUnsupported }
	img, err = qcow2.Open(ra, refuse)
	if err != nil {
		return nil, err
	}
	return img, img.Readable()
}
