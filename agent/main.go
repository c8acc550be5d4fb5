// Command ingot-agent is what a machine runs while it belongs to Ingot: it dials
// the controller named on the kernel command line, tells what the machine is
// made of, tests it, writes images to its disks, erases them, and starts what
// was installed. It offers no service of its own, except for frames of an image
// to its peers while it deploys that image with them (imaging/relay).
//
// It is started by process 1 of the initramfs, without arguments, and reads
// /proc/cmdline (see initramfs/cmdline for the parameters). Its log goes to
// the console and to the controller. State that outlives the process, but not
// the boot, lies in /run/ingot.
//
// It ends with status 1 when the controller refuses this boot or no network
// comes up, and process 1 starts it again, a few times, before it reboots.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/ingot-metal/ingot/agent/deploy"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

// version is set by the linker: -X main.version=…
var version = "unknown"

const (
	stateDir = "/run/ingot"
	// heapLimit keeps the collector eager, so that a machine with 1 GiB has
	// room for the installed system's kernel and initrd beside us.
	heapLimit = 512 << 20
)

func main() {
	debug.SetMemoryLimit(heapLimit)
	runtime.GOMAXPROCS(deploy.Processors())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, host.New("/"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingot-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, h host.Host) error {
	line, err := h.ReadString("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel command line: %w", err)
	}
	params, err := cmdline.Parse(line)
	if err != nil {
		return fmt.Errorf("kernel command line: %w", err)
	}
	if err := params.Validate(); err != nil {
		return fmt.Errorf("kernel command line: %w", err)
	}
	bootID, err := h.ReadString("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read the boot id: %w", err)
	}
	record := session.NewLog(os.Stdout, level(params.LogLevel), cmdline.Redact)
	log := record.Logger()
	log.Info("agent starts", "version", version, "controller", params.Controller, "mac", params.BootMAC.String())
	stepClock(log, params.Time)

	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	net, err := connect(ctx, &wait, h, params, log)
	if err != nil {
		return err
	}
	m := &machine{host: h, params: params, neighbours: net, log: log}
	s, err := session.New(session.Config{
		Controller: params.Controller, CA: params.CA, Nonce: params.Nonce, BootMAC: params.BootMAC.String(),
		BootID: bootID, Dir: stateDir, Version: version, Identify: m.identify, Plan: m.plan,
		Log: record, Show: newConsole(os.Stdout).show,
	})
	if err != nil {
		return err
	}
	m.certificate = s.Certificate
	m.session = s
	after, err := s.Run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end
		}
		return err
	}
	return leave(ctx, log, after)
}

// level reads a log level of the command line; Parse has checked the word.
func level(word string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(word))); err != nil {
		return slog.LevelInfo
	}
	return l
}
