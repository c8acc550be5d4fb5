//go:build !vmtest

package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What needs no QEMU; the rest is in vm_test.go, behind the tag vmtest.

func TestConsole(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/console.log"
	c, err := NewConsole(file)
	if err != nil {
		t.Fatal(err)
	}
	ours, guest := net.Pipe()
	ended := make(chan struct{})
	go func() { c.attach(ours); close(ended) }()
	go func() {
		_, _ = io.WriteString(guest, "id=k3")
		_, _ = io.WriteString(guest, "f9 ready\n")
	}()
	groups, pos, err := c.Wait(t.Context(), 0, regexp.MustCompile(`id=(\w+) (x)?ready`))
	if diff := cmp.Diff(groups, []string{"id=k3f9 ready", "k3f9", ""}); diff != "" || err != nil {
		t.Errorf("Wait: %v (-got +want):\n%s", err, diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := c.Wait(ctx, pos, regexp.MustCompile("ready")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("old text matched again: %v", err)
	}
	typed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(guest).ReadString('\n')
		typed <- line
	}()
	if _, err := io.WriteString(c, "root\n"); err != nil || <-typed != "root\n" {
		t.Errorf("typing: %v", err)
	}
	guest.Close()
	<-ended
	if _, err := io.WriteString(c, "x"); err == nil {
		t.Error("typing into a machine that is off succeeded")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(file); string(b) != "id=k3f9 ready\n" {
		t.Errorf("log holds %q", b)
	}
}

func TestConsoleKeepsTheEnd(t *testing.T) {
	t.Parallel()
	c, err := NewConsole("")
	if err != nil {
		t.Fatal(err)
	}
	block := []byte(strings.Repeat("x", 1<<20))
	for range 20 {
		c.add(block)
	}
	b, end, err := c.Read(t.Context(), 0)
	if err != nil || end != 20<<20 || len(b) < keepConsole || len(b) > 2*keepConsole {
		t.Errorf("%d bytes kept up to %d, %v", len(b), end, err)
	}
}

func TestQMP(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	events := make(chan Event, 1)
	q := newQMP(ours, func(e Event) { events <- e })
	go func() {
		r := bufio.NewReader(theirs)
		fmt.Fprintln(theirs, `{"QMP": {}}`)
		_, _ = r.ReadString('\n')
		fmt.Fprintln(theirs, `{"timestamp": {"seconds": 5, "microseconds": 0}, "event": "SHUTDOWN", "data": {"reason": "guest-reset"}}`)
		fmt.Fprintln(theirs, `{"return": {"a": 1}, "id": 1}`)
		_, _ = r.ReadString('\n')
		fmt.Fprintln(theirs, `{"error": {"class": "GenericError", "desc": "no"}, "id": 2}`)
		_, _ = r.ReadString('\n')
		theirs.Close()
	}()
	if got, err := q.run(t.Context(), "query", nil); err != nil || string(got) != `{"a": 1}` {
		t.Errorf("got %s, %v", got, err)
	}
	if e := <-events; e.Data["reason"] != "guest-reset" || e.Time.Unix() != 5 {
		t.Errorf("event %+v", e)
	}
	if _, err := q.run(t.Context(), "bad", nil); err == nil || !strings.Contains(err.Error(), "GenericError: no") {
		t.Errorf("refused command: %v", err)
	}
	if _, err := q.run(t.Context(), "late", nil); !errors.Is(err, errQMPGone) {
		t.Errorf("after the end: %v, want %v", err, errQMPGone)
	}
}

func TestArgs(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Name: "a,b", Dir: t.TempDir(), Firmware: BIOS, Serial: "S1",
		NICs:  []NIC{{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: "t0", PXEROM: true}},
		Disks: []Disk{{Bus: NVMe, Serial: "D0", NBD: "/s0", SectorSize: 4096}, {Bus: SATA, Serial: "D1", File: "/d1"}},
	}
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		boot Boot
		want []string
	}{
		{Boot{}, []string{"id=disk0,drive=bdisk0,serial=D0,logical_block_size=4096,physical_block_size=4096,bootindex=0", "serial=D1,logical_block_size=512,physical_block_size=4096,bootindex=1", "mac=02:00:00:00:00:01,bootindex=2"}},
		{Boot{Device: PXE}, []string{"mac=02:00:00:00:00:01,bootindex=0", "serial=D0,logical_block_size=4096,physical_block_size=4096,bootindex=1"}},
	} {
		p, err := cfg.arrange(c.boot)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Join(cfg.args(p), " ")
		for _, want := range append(c.want, "-name a,,b", "asset=a,,b", "-no-reboot") {
			if !strings.Contains(line, want) {
				t.Errorf("boot %+v: no %q in %s", c.boot, want, line)
			}
		}
	}
	bad := []Config{
		{Name: "x"}, {Name: "x", Dir: "/tmp", Disks: []Disk{{NBD: "/s", File: "/f"}}}, {Name: "x", Dir: "/tmp", NICs: []NIC{{Tap: "t"}}},
	}
	for _, c := range bad {
		if err := c.prepare(); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
