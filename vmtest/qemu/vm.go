package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Reason says why a VM ended, in QEMU's own words (QAPI, ShutdownCause) where
// it had time to say it.
type Reason string

// The reasons that matter.
const (
	GuestReset Reason = "guest-reset"    // reboot, triple fault, or the firmware's reset
	GuestOff   Reason = "guest-shutdown" // ACPI S5
	HostQuit   Reason = "host-qmp-quit"  // by Quit
	Killed     Reason = "killed"         // by Kill
	Died       Reason = "died"           // QEMU ended without a word
)

// VM is one QEMU process. Its methods may be called concurrently.
type VM struct {
	cfg     Config
	cmd     *exec.Cmd
	qmp     *qmp
	console *Console
	from    int64 // the console's position when this VM began
	stderr  bytes.Buffer
	wg      sync.WaitGroup
	done    chan struct{}

	mu      sync.Mutex // guards what follows
	reason  Reason
	killed  bool
	events  []Event
	changed chan struct{}
	err     error
}

// maxEvents bounds the kept events; a guest can cause many.
const maxEvents = 1000

// Start boots the machine once. The VM outlives ctx, which only limits the
// start. Config.Console, if nil, becomes a new one on Dir/console.log.
func Start(ctx context.Context, cfg Config, boot Boot) (*VM, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	p, err := cfg.arrange(boot)
	if err != nil {
		return nil, err
	}
	if cfg.Console == nil {
		if cfg.Console, err = NewConsole(cfg.Dir + "/console.log"); err != nil {
			return nil, err
		}
	}
	v := &VM{cfg: cfg, console: cfg.Console, from: cfg.Console.Position(), done: make(chan struct{}), changed: make(chan struct{})}
	if err := v.launch(p); err != nil {
		return nil, err
	}
	if err := v.begin(ctx); err != nil {
		_ = v.Kill()
		return nil, fmt.Errorf("start QEMU for %s: %w%s", cfg.Name, err, v.complaint())
	}
	return v, nil
}

// launch starts the process with control and console on socket pairs, so
// that no path is too long and nobody else can connect.
func (v *VM) launch(p plan) error {
	control, controlFile, err := pair()
	if err != nil {
		return err
	}
	console, consoleFile, err := pair()
	if err != nil {
		control.Close()
		controlFile.Close()
		return err
	}
	v.cmd = exec.Command(v.cfg.QEMU, v.cfg.args(p)...)
	v.cmd.ExtraFiles = []*os.File{controlFile, consoleFile}
	v.cmd.Dir = v.cfg.Dir
	v.cmd.Stderr, v.cmd.Stdout = &v.stderr, &v.stderr
	// Its own process group: an interrupt at the terminal is for us to
	// handle. And no VM outlives the lab.
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = v.cmd.Start()
	controlFile.Close()
	consoleFile.Close()
	if err != nil {
		control.Close()
		console.Close()
		return fmt.Errorf("start QEMU for %s (Debian package qemu-system-x86): %w", v.cfg.Name, err)
	}
	v.qmp = newQMP(control, v.event)
	v.wg.Go(func() { v.console.attach(console); console.Close() })
	go v.wait(control)
	return nil
}

// pair makes a connected pair of stream sockets: ours and the child's.
func pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(fds[1]), "qemu")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return c, theirs, nil
}

// begin shakes hands and lets the paused CPUs go, so that no event is missed.
func (v *VM) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if _, err := v.qmp.run(ctx, "qmp_capabilities", nil); err != nil {
		return err
	}
	_, err := v.qmp.run(ctx, "cont", nil)
	return err
}

// wait ends the VM once the process has ended and its last words are read.
func (v *VM) wait(control net.Conn) {
	err := v.cmd.Wait()
	<-v.qmp.done
	control.Close()
	v.wg.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.killed && v.reason != GuestReset && v.reason != GuestOff:
		v.reason = Killed
	case v.reason == "":
		v.reason = Died
		v.err = fmt.Errorf("QEMU for %s ended: %w%s", v.cfg.Name, orExit(err), complaint(v.stderr.String()))
	}
	close(v.done)
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

func (v *VM) event(e Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Name == "SHUTDOWN" {
		if r, ok := e.Data["reason"].(string); ok {
			v.reason = Reason(r)
		}
	}
	if len(v.events) < maxEvents {
		v.events = append(v.events, e)
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// Done is closed when QEMU has ended.
func (v *VM) Done() <-chan struct{} { return v.done }

// Reason says why it ended; "" while it runs.
func (v *VM) Reason() Reason {
	select {
	case <-v.done:
		return v.reason
	default:
		return ""
	}
}

// Err is not nil when QEMU died by itself.
func (v *VM) Err() error {
	select {
	case <-v.done:
		return v.err
	default:
		return nil
	}
}

// Events returns QEMU's events so far.
func (v *VM) Events() []Event {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]Event(nil), v.events...)
}

// Pid is QEMU's process id.
func (v *VM) Pid() int { return v.cmd.Process.Pid }

// Console is the serial port.
func (v *VM) Console() *Console { return v.console }

// WaitConsole waits for re in what this POST prints.
func (v *VM) WaitConsole(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	groups, _, err := v.console.Wait(ctx, v.from, re)
	return groups, err
}

// Kill ends QEMU at once and waits for its end.
func (v *VM) Kill() error {
	v.mu.Lock()
	v.killed = true
	v.mu.Unlock()
	err := v.cmd.Process.Kill()
	<-v.done
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill QEMU of %s: %w", v.cfg.Name, err)
	}
	return nil
}

// Quit lets QEMU end in good order, which flushes its disks, and waits.
func (v *VM) Quit(ctx context.Context) error {
	if _, err := v.qmp.run(ctx, "quit", nil); err != nil && !errors.Is(err, errQMPGone) {
		return err
	}
	select {
	case <-v.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("quit QEMU of %s: %w", v.cfg.Name, ctx.Err())
	}
}

// PressPower presses the ACPI power button.
func (v *VM) PressPower(ctx context.Context) error {
	_, err := v.qmp.run(ctx, "system_powerdown", nil)
	return err
}

// Command runs any QMP command; args may be nil.
func (v *VM) Command(ctx context.Context, name string, args any) ([]byte, error) {
	return v.qmp.run(ctx, name, args)
}

func (v *VM) complaint() string { return complaint(v.stderr.String()) }

// complaint is QEMU's own words, cut to a size for an error.
func complaint(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	return ": QEMU says " + s[max(0, len(s)-500):]
}
