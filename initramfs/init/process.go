package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a signal asks for.
var (
	errReboot   = errors.New("reboot was asked for")
	errPowerOff = errors.New("power-off was asked for")
)

func endOf(s syscall.Signal) error {
	if s == unix.SIGPWR || s == unix.SIGUSR2 {
		return errPowerOff
	}
	return errReboot
}

func commandFor(cause error) int {
	if errors.Is(cause, errPowerOff) {
		return unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	return unix.LINUX_REBOOT_CMD_RESTART
}

// startAgent runs the agent in a session of its own, on the console.
func startAgent() (int, error) {
	files := []uintptr{os.Stdin.Fd(), os.Stdout.Fd(), os.Stderr.Fd()}
	pid, err := syscall.ForkExec(agentPath, []string{agentPath}, &syscall.ProcAttr{
		Dir: "/", Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
		Env: []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TMPDIR=/tmp"},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", agentPath, err)
	}
	return pid, nil
}

// waitChild reaps every child that ends until that is pid.
func waitChild(pid int) string {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Sprintf("lost: %v", err)
		case got == pid && status.Signaled():
			return "killed by " + status.Signal().String()
		case got == pid && status.Exited():
			return fmt.Sprintf("exit status %d", status.ExitStatus())
		}
	}
}

// killAgent asks all of the agent's session to end and, if over has not ended
// after killGrace, makes it.
func killAgent(over context.Context, pid int) {
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	sleep(over, killGrace)
	if over.Err() == nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// restartMachine ends the machine's run; it does not return.
func restartMachine(command int) {
	unix.Sync()
	for {
		err := unix.Reboot(command)
		fmt.Fprintln(os.Stderr, "init: reboot:", err)
		time.Sleep(10 * time.Second)
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
}
