// Command tinyinit is the whole userland of the tiny image: process 1 of its
// initramfs (as /init) and of its root filesystem (as /sbin/init).
//
// In the initramfs it loads the modules that modules/order names, waits for the
// root filesystem that root=UUID= names, and goes on there. On the root it reads
// the NoCloud seed (a FAT filesystem labelled cidata), sets the hostname, takes
// addresses by DHCP, reports its first boot once an instance, and stays up until
// the power button, SIGTERM or SIGPWR.
//
// It tells what it does in lines of key=value pairs on the console, each once a
// boot unless said otherwise. Values with anything but plain characters are
// quoted as in Go.
//
//	ingot-tiny: up hostname= instance_id= user_data_sha256= ssh_keys= boot_id= entered=
//	ingot-tiny: address nic= mac= ip=               once a NIC
//	ingot-tiny: reported instance_id=               the controller has the report
//	ingot-tiny: report-known instance_id=           an earlier boot reported already
//	ingot-tiny: report-failed attempt= err=         once an attempt
//	ingot-tiny: problem err=                        something went wrong, it goes on
//	ingot-tiny: power-off
//
// entered is kexec or firmware. Without a seed instance_id is "" and nothing is
// reported.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "tinyinit is process 1 of the tiny image; it does nothing else")
		os.Exit(2)
	}
	var err error
	if filepath.Base(os.Args[0]) == "init" && filepath.Dir(os.Args[0]) == "/" {
		err = initramfs()
	} else {
		err = system()
	}
	// Process 1 must not end: say why, leave time to read it, start again.
	say("problem", "err", fmt.Sprint(err))
	time.Sleep(10 * time.Second)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// say prints one line in a single write, so that lines of goroutines stay whole.
func say(event string, pairs ...string) {
	line := "ingot-tiny: " + event
	for i := 0; i+1 < len(pairs); i += 2 {
		line += " " + pairs[i] + "=" + quote(pairs[i+1])
	}
	// The line feed first ends a line that the kernel left open.
	fmt.Fprint(os.Stdout, "\r\n"+line+"\r\n")
}

// quote leaves plain words alone; hostile values must not forge a second pair
// or a second line.
func quote(s string) string {
	plain := func(r rune) bool {
		return r > ' ' && r < 0x7f && r != '"' && r != '\\' && r != '='
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// mountPoint is one of the kernel's own filesystems.
type mountPoint struct{ kind, path, data string }

func mountAll(points ...mountPoint) error {
	for _, m := range points {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, m.data); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.path, err)
		}
	}
	return nil
}
