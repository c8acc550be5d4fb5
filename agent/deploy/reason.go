package deploy

import (
	"errors"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// explained gives an error of the parts that a deploy is made of the reason that
// the controller is told.
func explained(err error) error {
	if err == nil {
		return nil
	}
	return job.Fail(reasonOf(err), err)
}

func reasonOf(err error) job.Reason {
	var (
		hash   *writer.HashError
		sector *writer.SectorError
		size   *writer.SizeError
		source *writer.SourceError
		fetchE *fetch.Error
		other  *writer.SectorSizeError
	)
	switch {
	case errors.As(err, &size), errors.Is(err, gpt.ErrNoRoom):
		return job.ReasonDiskTooSmall
	case errors.As(err, &other):
		return job.ReasonSectorSize
	case errors.As(err, &hash) && hash.Stage == writer.StageReadBack:
		return job.ReasonDiskError
	case errors.As(err, &hash), errors.Is(err, manifest.ErrInvalid):
		return job.ReasonImageDigest
	case errors.As(err, &sector):
		return job.ReasonDiskError
	case errors.As(err, &source), errors.As(err, &fetchE):
		return job.ReasonImageGone
	case errors.Is(err, disk.ErrNone), errors.Is(err, disk.ErrReadOnly):
		return job.ReasonNoDisks
	case errors.Is(err, disk.ErrAmbiguous):
		return job.ReasonDiskAmbiguous
	case errors.Is(err, disk.ErrGone):
		return job.ReasonDiskGone
	case errors.Is(err, gpt.ErrMBR), errors.Is(err, gpt.ErrNoTable), errors.Is(err, gpt.ErrCorrupt),
		errors.Is(err, gpt.ErrTruncated), errors.Is(err, gpt.ErrNoRoot), errors.Is(err, gpt.ErrRootNotLast):
		return job.ReasonImageLayout
	case job.Gone(err):
		return job.ReasonDiskGone
	}
	return job.ReasonOf(err)
}
