package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// uevents is an open netlink socket on which the kernel announces devices
// (Documentation/ABI/testing/sysfs-uevent; group 1 is the kernel's own).
type uevents struct{ file *os.File }

func listenUevents() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// A machine with many disks announces them all at once.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind uevent socket: %w", err), unix.Close(fd))
	}
	return &uevents{os.NewFile(uintptr(fd), "uevents")}, nil
}

// hotplug loads the drivers of devices as they appear, until ctx ends. It closes
// the socket.
func (l *loader) hotplug(ctx context.Context, u *uevents, log *slog.Logger) {
	stop := context.AfterFunc(ctx, func() { _ = u.file.Close() })
	defer stop()
	buffer := make([]byte, 64<<10)
	for {
		n, err := u.file.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS):
			// Announcements were lost, so look at everything again.
			l.coldplug("/sys", log)
		case err != nil:
			log.Error("listen for devices", "err", err)
			return
		default:
			if id := addedDevice(buffer[:n]); id != "" {
				l.loadAll(l.unseen([]string{id}), log)
			}
		}
	}
}

// addedDevice returns the MODALIAS of a message about a new device, or nothing.
// A message is ACTION@PATH and then KEY=VALUE, each ended by a zero byte.
func addedDevice(message []byte) string {
	added := false
	id := ""
	for field := range bytes.SplitSeq(message, []byte{0}) {
		k, value, _ := bytes.Cut(field, []byte("="))
		switch string(k) {
		case "ACTION":
			added = string(value) == "add" || string(value) == "change"
		case "MODALIAS":
			id = string(value)
		}
	}
	if !added || len(id) > maxModalias {
		return ""
	}
	return id
}
