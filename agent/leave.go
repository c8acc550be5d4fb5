package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ingot-metal/ingot/agent/boot"
	"github.com/ingot-metal/ingot/agent/job"
)

// leave does what follows a stored result. It does not return when that works.
func leave(ctx context.Context, log *slog.Logger, after job.After) error {
	log.Info("machine leaves the agent", "how", string(after))
	var err error
	switch after {
	case job.PowerOff:
		err = boot.PowerOff()
	case job.Kexec:
		err = boot.Kexec()
		log.Error("kexec did not work, restarting instead", "err", err)
		fallthrough
	case job.Reboot:
		err = boot.Reboot()
	default:
		return fmt.Errorf("nothing is known about how to go on with %q", after)
	}
	log.Error("machine did not leave the agent", "err", err)
	if err := pause(ctx, 10*time.Second); err != nil {
		return nil
	}
	return err
}
