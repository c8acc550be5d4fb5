package pack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Format of an input, as the user states it.
type Format string

const (
	Raw     Format = "raw"
	RawGzip Format = "raw.gz"
	RawXZ   Format = "raw.xz"
	RawZstd Format = "raw.zst"
	RawLZ4  Format = "raw.lz4"
	QCOW2   Format = "qcow2"

	// Auto has Pack recognise the format (see Recognise), and refuse what is
	// not certain.
	Auto Format = "auto"
)

// Formats lists all that Pack reads; Auto is none of them.
func Formats() []Format { return []Format{Raw, RawGzip, RawXZ, RawZstd, RawLZ4, QCOW2} }

// ParseFormat reads what a user typed: one of Formats, or Auto.
func ParseFormat(s string) (Format, error) {
	if slices.Contains(Formats(), Format(s)) || Format(s) == Auto {
		return Format(s), nil
	}
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return "", fmt.Errorf("image format %.40q: want one of %s, or %s", s, strings.Join(names, ", "), Auto)
}

// codec is the compression around the raw disk; Plain for the others.
func (f Format) codec() codec.Format {
	switch f {
	case RawGzip:
		return codec.Gzip
	case RawXZ:
		return codec.XZ
	case RawZstd:
		return codec.Zstd
	case RawLZ4:
		return codec.LZ4
	}
	return codec.Plain
}

// Errors by which a caller can tell what is wrong with an input. All others
// are those of reading it or of writing the result.
var (
	// ErrFormat: the first bytes are not those of the stated format.
	ErrFormat = errors.New("the image is not in the stated format")
	// ErrUnsupported: a feature of the format that is refused.
	ErrUnsupported = errors.New("not supported")
	// ErrTooLarge: more content than Options.MaxSizeBytes.
	ErrTooLarge = errors.New("the image is larger than allowed")
	// ErrDamaged: cut off, or a disk that cannot be whole.
	ErrDamaged = errors.New("the image is damaged or cut off")
	// ErrExists: there is something at the destination already.
	ErrExists = errors.New("there is an image already")
)

// Input is what to pack: a stream, or for qcow2 something that can be read at
// any offset.
type Input struct {
	Reader   io.Reader
	ReaderAt io.ReaderAt
	Size     int64 // of ReaderAt; of Reader if known, else 0
}

// FileInput is a regular file as Input; the caller closes it afterwards.
func FileInput(f *os.File) (Input, error) {
	info, err := f.Stat()
	if err != nil {
		return Input{}, fmt.Errorf("open image: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Input{}, fmt.Errorf("open image: %s is no regular file", f.Name())
	}
	return Input{Reader: io.NewSectionReader(f, 0, info.Size()), ReaderAt: f, Size: info.Size()}, nil
}

// Options for Pack and Fill. Format and Architecture are required.
type Options struct {
	Format       Format
	Architecture string // Debian's word, such as amd64
	Name         string // for people
	// SectorSize the disk is made for, 512 or 4096; 0 takes it from the GPT, or
	// 512 without one. A GPT that says otherwise is an error.
	SectorSize uint32
	// FrameSize is a power of two (0: manifest.DefaultFrameSize).
	FrameSize uint32
	// MaxSizeBytes bounds the content (0: 1 TiB).
	MaxSizeBytes uint64
	// Boot is what the user knows; what is empty in it is filled in from the
	// partition table.
	Boot *manifest.Boot
	// Trim leaves out the free blocks of ext4 filesystems in a GPT (see package
	// ext4): the image's disk then has zeros there, and is not the source byte
	// for byte. What is not trimmed after all is a warning. A stream is packed
	// twice for it.
	Trim bool
	// Workers compress in parallel (0: one a CPU).
	Workers int
	// Progress, if not nil, is called now and then from one goroutine.
	Progress func(Progress)
}

// Progress of packing: first phase "pack" (before it "unpack"
// for a stream that is trimmed), then "verify".
type Progress struct {
	Phase        string
	InputBytes   int64 // read of the input, as it comes (compressed); holes of a file are not read
	InputTotal   int64 // 0 if not known
	ContentBytes int64 // packed, or verified, so far
	ContentTotal int64 // 0 if not known
	PackedBytes  int64
}

// Result of packing.
type Result struct {
	Manifest *manifest.Manifest
	Digest   manifest.Digest
	Format   Format // of the input, as stated or recognised
	Evidence string // for Format, in words; "stated" if it was
	// TrimmedBytes lay in free blocks and were not zero.
	TrimmedBytes int64
	// Warnings are sentences about what will not work with this image, such as
	// a root partition that cannot be grown.
	Warnings []string
}
