package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Reason is a code of the controller's catalogue of reasons
// (controller/machine/reason.go has the sentences for people). The words here
// and there must stay the same; the agent cannot import them.
type Reason string

// The reasons that an agent gives.
const (
	ReasonCancelled        Reason = "cancelled"
	ReasonNoDisks          Reason = "no_disks"
	ReasonDiskGone         Reason = "disk_gone"
	ReasonDiskAmbiguous    Reason = "disk_ambiguous"
	ReasonDiskTooSmall     Reason = "image_larger_than_disk"
	ReasonSectorSize       Reason = "sector_size_differs"
	ReasonDiskError        Reason = "disk_error"
	ReasonDiskConflict     Reason = "other_disk_bears_image_ids"
	ReasonImageDigest      Reason = "image_digest_wrong"
	ReasonImageGone        Reason = "image_source_gone"
	ReasonSignatureMissing Reason = "image_signature_missing"
	ReasonSignatureForeign Reason = "image_signature_untrusted"
	ReasonSignatureWrong   Reason = "image_signature_wrong"
	ReasonImageLayout      Reason = "image_layout_unsupported"
	ReasonBootOrder        Reason = "boot_order_not_set"
	ReasonTestFailed       Reason = "hardware_test_failed"
	ReasonInventory        Reason = "inventory_incomplete"
	ReasonEraseUnverified  Reason = "erase_not_verified"
	ReasonAgentError       Reason = "agent_error"
)

// Error is a failure with the reason that the controller is told.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Fail gives err a reason. A nil err stays nil, and an error that has a reason
// already keeps it: who was nearer to the cause knows better.
func Fail(reason Reason, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &Error{Reason: reason, Err: err}
}

// Failf is Fail with a text, formatted as by fmt.Errorf.
func Failf(reason Reason, format string, args ...any) error {
	return Fail(reason, fmt.Errorf(format, args...))
}

// ReasonOf is the reason of err: its own, disk_error for what only a disk
// answers, and agent_error for all else.
func ReasonOf(err error) Reason {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known.Reason
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENODATA):
		return ReasonDiskError
	}
	return ReasonAgentError
}

// canceled is the cause of a context that an operator's Cancel ended.
type canceled struct{ reason string }

func (c *canceled) Error() string {
	if c.reason == "" {
		return "cancelled by the controller"
	}
	return "cancelled by the controller: " + c.reason
}

// Is makes the cause look like any other cancelled context.
func (c *canceled) Is(target error) bool { return target == context.Canceled }

// Cancelled is the cause to end a job's context with (context.WithCancelCause)
// when the controller cancels its order.
func Cancelled(reason string) error { return &canceled{reason} }

// wasCancelled tells a wanted end from a limit in time or a dying agent.
func wasCancelled(ctx context.Context) bool {
	var c *canceled
	return errors.As(context.Cause(ctx), &c)
}

// Gone reports whether err says that a file or device is not there (any more).
func Gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}
