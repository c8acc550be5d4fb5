package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ways to erase.
const (
	MethodSanitize  = "nvme-sanitize"
	MethodFormat    = "nvme-format"
	MethodOverwrite = "overwrite"
)

// Receipt says what was done to a disk.
type Receipt struct {
	Method        string
	Started       time.Time
	Ended         time.Time
	VerifiedBytes uint64
	// Verified is true only if all that was read back held no data.
	Verified     bool
	DoesNotProve string
}

// ErrNotErased says that a disk that reported success still holds data.
var ErrNotErased = errors.New("the disk still holds data after it was erased")

// doesNotProve is the honest part of a receipt.
var doesNotProve = map[string]string{
	MethodSanitize:  "The device says itself that its block erase ended well, and samples read back held no data; nobody looked at the memory chips.",
	MethodFormat:    "The device says itself that it formatted and erased the namespace, and samples read back held no data; what it keeps beyond the namespace (spare blocks) was not looked at.",
	MethodOverwrite: "Every block that the system can address was set to zero once, by the disk's own command for that where it has one, and samples read back. A disk may do that without writing its cells. Blocks that it has set aside by itself (bad or spare ones, flash not mapped at the moment) may hold old data; the disk's own sanitize command was not used.",
}

// EraseOptions for Erase.
type EraseOptions struct {
	// VerifyPercent is the share to read back, 1 to 100; 0 means 1. Both ends
	// are always among it.
	VerifyPercent int
	// Progress is told how far the erase, and then the reading back, is; nil:
	// nobody.
	Progress func(step string, done, total int64)
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// formatLimit bounds an NVMe Format; large disks have been seen to take minutes.
const formatLimit = 30 * time.Minute

// Erase makes all data of the disk unreadable, by its own command where that is
// offered for this disk alone and its log confirms it, and by overwriting all
// of it otherwise, then reads samples back. The receipt tells what was done even
// when there is an error; ErrNotErased when data was found afterwards.
func Erase(ctx context.Context, d Disk, o EraseOptions) (Receipt, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	o.Log = o.Log.With("disk", d.Name())
	receipt := Receipt{Started: o.Now()}
	err := erase(ctx, d, o, &receipt)
	receipt.Ended = o.Now()
	receipt.DoesNotProve = doesNotProve[receipt.Method]
	if err != nil {
		return receipt, fmt.Errorf("erase %s: %w", d.Name(), err)
	}
	return receipt, nil
}

func erase(ctx context.Context, d Disk, o EraseOptions, receipt *Receipt) error {
	v, err := openVolume(d.Path)
	if err != nil {
		return err
	}
	defer v.close()
	if receipt.Method, err = eraseByDevice(ctx, d, v.file, o); err != nil {
		return err
	}
	if receipt.Method == "" {
		receipt.Method = MethodOverwrite
		if err := v.overwrite(ctx, o.Progress); err != nil {
			return err
		}
	}
	if err := v.settle(); err != nil {
		return err
	}
	o.Log.Info("disk is erased, reading back", "method", receipt.Method, "percent", max(o.VerifyPercent, 1))
	n, err := v.verify(ctx, receipt.Method, o)
	receipt.VerifiedBytes, receipt.Verified = uint64(n), err == nil
	return err
}

// eraseByDevice tries the commands that the device has of its own. An empty
// method means that none was offered or worked, and nothing is lost: the disk is
// overwritten then.
func eraseByDevice(ctx context.Context, d Disk, f *os.File, o EraseOptions) (string, error) {
	if nvmeName.FindStringSubmatch(d.Info.Name) == nil {
		return "", nil
	}
	nsid, err := unix.IoctlRetInt(int(f.Fd()), nvmeIoctlID)
	if err != nil || nsid <= 0 {
		o.Log.Warn("namespace not known, overwriting instead", "err", err)
		return "", nil
	}
	send := adminOf(f)
	can, err := nvmeAsk(send, uint32(nsid))
	if err != nil {
		o.Log.Warn("abilities not known, overwriting instead", "err", err)
		return "", nil
	}
	size := int64(d.Info.SizeBytes)
	if can.sanitizeBlock {
		o.Log.Info("sanitize starts")
		err := runSanitize(ctx, send, time.Second, func(part float64) { o.Progress("sanitize", int64(part*float64(size)), size) })
		if err == nil || ctx.Err() != nil {
			return MethodSanitize, err
		}
		o.Log.Warn("sanitize did not work", "err", err)
	}
	if can.format {
		o.Log.Info("format starts")
		o.Progress("format", 0, size)
		if err := runFormat(send, can, formatLimit); err == nil {
			return MethodFormat, nil
		} else {
			o.Log.Warn("format did not work, overwriting instead", "err", err)
		}
	}
	return "", context.Cause(ctx)
}

// nvmeIoctlID is NVME_IOCTL_ID, _IO('N', 0x40): the number of the namespace.
const nvmeIoctlID = 0x4e40
