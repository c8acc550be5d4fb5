package writer

import (
	"context"
	"fmt"
	"io"
)

// Target is a disk, or a file that stands for one. ReadAt, WriteAt and
// ZeroRange are called in parallel, for ranges that do not overlap; offsets
// and lengths are multiples of SectorSize, and the buffers of this package are
// aligned to pages.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Size in bytes.
	Size() int64
	// SectorSize is the logical sector in bytes, 512 or 4096.
	SectorSize() int
	// ZeroRange makes the range read as zero, from now on and after a power
	// cut that follows a Flush.
	ZeroRange(offset, length int64) error
	// Flush returns when all that was written is on the medium.
	Flush() error
	// DropCache makes the reads that follow come from the medium, as far as
	// the system lets us.
	DropCache() error
}

// Source delivers ranges of the packed file; fetch.Source is one. Range gives
// exactly length bytes or an error, calls are allowed in parallel, and retrying
// is the source's own business. If it also has a method Suspect(offset, length
// int64), that is told of bytes that hashed wrong.
type Source interface {
	Range(ctx context.Context, offset, length int64) (io.ReadCloser, error)
}

// SizeError is an image that is larger than its target. Nothing was written.
type SizeError struct {
	ImageBytes  int64
	TargetBytes int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the image has %d bytes, the target only %d: choose a larger disk", e.ImageBytes, e.TargetBytes)
}

// SectorSizeError is an image made for another logical sector size; its
// partition table would not be found. Nothing was written.
type SectorSizeError struct {
	Image  int
	Target int
}

func (e *SectorSizeError) Error() string {
	return fmt.Sprintf("the image is made for sectors of %d bytes, the target has %d: use an image made for it, or another disk", e.Image, e.Target)
}

// SectorError is what the disk answered, with the first sector it concerns.
type SectorError struct {
	Op         string // "write", "read", "zero" or "flush"
	LBA        int64  // in sectors of SectorSize; -1 when the disk did not say (flush)
	SectorSize int
	Err        error
}

func (e *SectorError) Error() string {
	if e.LBA < 0 {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s sector %d (of %d bytes): %v", e.Op, e.LBA, e.SectorSize, e.Err)
}

func (e *SectorError) Unwrap() error { return e.Err }

// Stage says where a hash did not match.
type Stage string

const (
	// StagePacked: the source delivered other bytes than the manifest names.
	StagePacked Stage = "packed frame"
	// StageContent: the packed bytes were right and decode to something else,
	// which is the manifest's fault or that of the memory.
	StageContent Stage = "decoded frame"
	// StageReadBack: the disk returns other bytes than were written.
	StageReadBack Stage = "read back"
)

// HashError is a frame that is not what the manifest promises.
type HashError struct {
	Frame  int
	Offset int64 // of the frame on the target, in bytes
	Stage  Stage
	Err    error // more detail; may be nil
}

func (e *HashError) Error() string {
	s := fmt.Sprintf("frame %d (at byte %d), %s: it does not match the manifest", e.Frame, e.Offset, e.Stage)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *HashError) Unwrap() error { return e.Err }

// SourceError is a source that could not deliver; Err tells whether it might
// another time (fetch.Permanent).
type SourceError struct {
	Frame int // the first one that is missing
	Err   error
}

func (e *SourceError) Error() string { return fmt.Sprintf("fetch frame %d: %v", e.Frame, e.Err) }

func (e *SourceError) Unwrap() error { return e.Err }
