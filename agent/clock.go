package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mayLag and mayLead are how far off the clock may be before it is stepped:
	// certificates of the controller are not yet valid for a clock that lags,
	// and a few minutes ahead are the time that the loader took.
	mayLag  = time.Minute
	mayLead = 15 * time.Minute
)

// stepClock sets the clock to what the boot script said, plus the time since the
// kernel started. Real clocks are years off, and TLS needs a good one. Only once
// a boot: months later the sum would have drifted.
func stepClock(log *slog.Logger, script time.Time) {
	marker := filepath.Join(stateDir, "clock")
	if _, err := os.Stat(marker); err == nil || script.IsZero() {
		return
	}
	target, off := clockTarget(script, sinceBoot(), time.Now())
	if target.IsZero() {
		log.Info("clock is good", "off", off)
	} else if err := unix.ClockSettime(unix.CLOCK_REALTIME, timespec(target)); err != nil {
		log.Error("clock not set", "off", off, "err", err)
		return
	} else {
		log.Warn("clock was stepped", "off", off, "to", target.UTC())
		if err := setRTC(rtcDevice, target); err != nil {
			log.Warn("hardware clock not set: the installed system may start with a wrong time", "err", err)
		}
	}
	if err := os.MkdirAll(stateDir, 0o700); err == nil {
		_ = os.WriteFile(marker, nil, 0o600) // without it the next start looks again
	}
}

// rtcDevice is the hardware clock that the next kernel starts from, be it by
// kexec or by firmware.
const rtcDevice = "/dev/rtc0"

// setRTC sets a hardware clock, which runs in UTC, to the second.
func setRTC(path string, t time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("set the hardware clock: %w", err)
	}
	defer f.Close()
	value := rtcTime(t)
	if err := unix.IoctlSetRTCTime(int(f.Fd()), &value); err != nil {
		return fmt.Errorf("set the hardware clock %s: %w", path, err)
	}
	return nil
}

// rtcTime counts months from 0 and years from 1900 (rtc(4)).
func rtcTime(t time.Time) unix.RTCTime {
	t = t.UTC().Round(time.Second)
	return unix.RTCTime{Sec: int32(t.Second()), Min: int32(t.Minute()), Hour: int32(t.Hour()),
		Mday: int32(t.Day()), Mon: int32(t.Month()) - 1, Year: int32(t.Year()) - 1900}
}

// clockTarget decides; a zero target means that the clock is good enough.
func clockTarget(script time.Time, up time.Duration, now time.Time) (target time.Time, off time.Duration) {
	wanted := script.Add(up)
	off = now.Sub(wanted)
	if off < -mayLag || off > mayLead {
		return wanted, off
	}
	return time.Time{}, off
}

func timespec(t time.Time) *unix.Timespec {
	ts := unix.NsecToTimespec(t.UnixNano())
	return &ts
}

func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
