package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// MaxOutput is how much of each of a program's two outputs is kept, in
	// bytes; what comes after is read and dropped.
	MaxOutput = 1 << 20
	// DefaultTimeout bounds a program when ctx has no deadline.
	DefaultTimeout = time.Minute
)

// Output is what a program printed.
type Output struct {
	Stdout, Stderr []byte
	// Truncated says that MaxOutput was reached.
	Truncated bool
}

// Runner runs a program to its end.
type Runner func(ctx context.Context, name string, args ...string) (Output, error)

// ExitError is a program that ran and did not succeed.
type ExitError struct {
	Program string
	// Code is the exit status, or -1 if a signal ended it.
	Code int
	// Complaint is the end of its standard error.
	Complaint string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended with status %d: %s", e.Program, e.Code, e.Complaint)
}

// WithRunner returns the host with another way to run programs, for tests.
func (h Host) WithRunner(run Runner) Host {
	h.run = run
	return h
}

// Run runs a program and waits for it and whatever it started to end. Arguments
// are passed as they are, without a shell. Its environment holds only PATH and
// LC_ALL=C. A status other than 0 is an *ExitError; a program that is not there
// wraps exec.ErrNotFound. When ctx ends the whole process group is killed.
func (h Host) Run(ctx context.Context, name string, args ...string) (Output, error) {
	if h.run != nil {
		return h.run(ctx, name, args...)
	}
	if err := ctx.Err(); err != nil {
		return Output{}, fmt.Errorf("run %s: %w", name, err)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Output{Stdout: stdout.data, Stderr: stderr.data, Truncated: stdout.over || stderr.over}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, fmt.Errorf("run %s: %w", name, ctx.Err())
	case errors.As(err, &exit):
		return out, &ExitError{Program: name, Code: exit.ExitCode(), Complaint: complaint(stderr.data)}
	}
	return out, fmt.Errorf("run %s: %w", name, err)
}

// LoadModule loads a kernel module, or what has that alias, with all it needs.
func (h Host) LoadModule(ctx context.Context, name string) error {
	if _, err := h.Run(ctx, "modprobe", "--", name); err != nil {
		return fmt.Errorf("load kernel module %s: %w", name, err)
	}
	return nil
}

// capped keeps the first MaxOutput bytes written to it.
type capped struct {
	data []byte
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	room := MaxOutput - len(c.data)
	if len(p) > room {
		c.over = true
		c.data = append(c.data, p[:room]...)
		return len(p), nil
	}
	c.data = append(c.data, p...)
	return len(p), nil
}

func complaint(stderr []byte) string {
	const keep = 500
	stderr = bytes.TrimSpace(stderr)
	if len(stderr) > keep {
		stderr = stderr[len(stderr)-keep:]
	}
	return strings.ToValidUTF8(string(stderr), "?")
}
