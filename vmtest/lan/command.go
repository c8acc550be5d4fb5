package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// envParent tells the child which namespace it was started from, so that Up
// can never build its bridge in the host's.
const envParent = "INGOT_LAN_PARENT"

// envListener and a name hold the number of a passed descriptor.
const envListener = "INGOT_LAN_FD_"

// Command prepares name to start in a new network namespace. The child may
// administer it, use raw sockets and bind low ports, and so may what it
// starts. Errors of the command's Start or Run are worth passing to Explain.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), envParent+"="+namespace())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		c.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE}
	}
	return c
}

// Pass hands a listening socket to a command that was not started yet; the
// child gets it by Inherited(name). The caller still closes its own ln, and
// the descriptors in c.ExtraFiles once the command has started; while one of
// them is open the port answers, into a queue that nobody serves.
func Pass(c *exec.Cmd, name string, ln *net.TCPListener) error {
	f, err := ln.File()
	if err != nil {
		return fmt.Errorf("pass listener %s: %w", name, err)
	}
	c.ExtraFiles = append(c.ExtraFiles, f)
	c.Env = append(c.Env, envListener+name+"="+strconv.Itoa(2+len(c.ExtraFiles)))
	return nil
}

// Inherited returns the listener that the parent passed under name.
func Inherited(name string) (net.Listener, error) {
	fd, err := strconv.Atoi(os.Getenv(envListener + name))
	if err != nil {
		return nil, fmt.Errorf("no listener %q was passed to this process", name)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherited listener %q: %w", name, err)
	}
	return ln, nil
}

// Check finds out whether Command works here, by making a namespace with a
// bridge in it and throwing both away.
func Check(ctx context.Context) error {
	c := Command(ctx, "ip", "link", "add", "br0", "type", "bridge")
	var out bytes.Buffer
	c.Stderr = &out
	err := c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", unix.EPERM, strings.TrimSpace(out.String()))
	}
	return Explain(err)
}

// Explain adds to an error of starting a Command, or of Up, what forbids it
// and what to do. nil stays nil.
func Explain(err error) error {
	if err == nil || os.Getuid() == 0 {
		return err
	}
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS)
	for _, s := range []struct{ file, bad, name string }{
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"},
		{"/proc/sys/user/max_net_namespaces", "0", "user.max_net_namespaces=10000"},
	} {
		b, _ := os.ReadFile(s.file)
		if (denied || full) && strings.TrimSpace(string(b)) == s.bad {
			return fmt.Errorf("this kernel forbids network namespaces to ordinary users; allow them with `sudo sysctl -w %s`, or run this with sudo: %w", s.name, err)
		}
	}
	if denied {
		return fmt.Errorf("network namespaces are not permitted to this user (a container's seccomp filter?); run this with sudo: %w", err)
	}
	return err
}

// namespace names this process's network namespace, such as net:[4026531840].
func namespace() string {
	s, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "unknown"
	}
	return s
}
