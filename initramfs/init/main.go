// Command init is process 1 of the agent's initramfs. It does almost nothing,
// so that almost nothing in it can break:
//
//   - mounts /dev, /proc, /sys, /run, /tmp and what lies below them;
//   - keeps the kernel's log off the console, where the boot session's nonce
//     would be readable;
//   - loads the modules of the devices that are there, and goes on loading those
//     of devices that appear later;
//   - runs /bin/ingot-agent, and starts it again when it ends: three times,
//     after 1, 4 and 16 seconds, then it reboots the machine;
//   - reaps orphans.
//
// Signals: SIGTERM, SIGINT (also Ctrl-Alt-Del) and SIGHUP reboot, SIGPWR and
// SIGUSR2 power off; the agent is given ten seconds to end first.
//
// Called as modprobe (the kernel does that itself, as /sbin/modprobe, when it
// needs a filesystem, a cipher or a protocol), it loads the named modules or
// aliases and exits.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

const agentPath = "/bin/ingot-agent"

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(modprobe(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is process 1 of the agent's initramfs and does nothing elsewhere")
		os.Exit(2)
	}
	// Process 1 must never return: the kernel would panic.
	defer func() {
		fmt.Fprintf(os.Stderr, "init: stopped by %v, reboot in 30 seconds\n", recover())
		time.Sleep(30 * time.Second)
		restartMachine(unix.LINUX_REBOOT_CMD_RESTART)
	}()
	run()
}

// run brings the machine up and returns only by panicking.
func run() {
	mountErrs := mountAll("/", earlyMounts, unix.Mount)
	log := newLogger(os.Stderr, logLevel("/proc/cmdline"))
	for _, err := range mountErrs {
		log.Error("mount", "err", err)
	}
	for _, err := range setKernel("/") {
		log.Warn("kernel setting", "err", err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPWR, unix.SIGUSR2)
	ctx, stop := context.WithCancelCause(context.Background())
	go func() { stop(endOf((<-signals).(syscall.Signal))) }()

	events := plug(ctx, log)
	for _, err := range mountAll("/", lateMounts("/"), unix.Mount) {
		log.Warn("mount", "err", err)
	}
	s := supervisor{log: log, start: startAgent, wait: waitChild, kill: killAgent, sleep: sleep, now: time.Now}
	cause := s.run(ctx)
	log.Warn("machine ends", "err", cause)
	stop(cause)
	<-events
	restartMachine(commandFor(cause))
}

// plug loads the modules of all devices present and starts the listener for
// later ones, which ends with ctx and then closes the channel.
func plug(ctx context.Context, log *slog.Logger) <-chan struct{} {
	done := make(chan struct{})
	began := time.Now()
	l, err := newLoader(loaderOptions{root: "/"})
	if err != nil {
		log.Error("read module tables", "err", err)
		close(done)
		return done
	}
	// Listening starts before the walk, so that no device falls in between.
	socket, err := listenUevents()
	if err != nil {
		log.Error("listen for devices", "err", err)
	}
	l.loadNamed(log)
	passes := l.coldplug("/sys", log)
	log.Info("devices plugged", "modules", l.count(), "passes", passes, "elapsed", time.Since(began).Round(time.Millisecond))
	go func() {
		defer close(done)
		if socket != nil {
			l.hotplug(ctx, socket, log)
		}
	}()
	return done
}

func newLogger(out *os.File, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})).With("process", "init")
}

// logLevel reads the level from the kernel command line. A damaged line is the
// agent's to report.
func logLevel(path string) slog.Level {
	line, err := os.ReadFile(path)
	if err != nil {
		return slog.LevelInfo
	}
	p, _ := cmdline.Parse(string(line))
	var level slog.Level
	if p.LogLevel == "" || level.UnmarshalText([]byte(p.LogLevel)) != nil {
		return slog.LevelInfo
	}
	return level
}

func modprobe(args []string) int {
	l, err := newLoader(loaderOptions{root: "/"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	status := 0
	for _, name := range args {
		if name == "" || name[0] == '-' {
			continue
		}
		if err := l.load(name); err != nil {
			fmt.Fprintf(os.Stderr, "modprobe: %s: %v\n", name, err)
			status = 1
		}
	}
	return status
}
