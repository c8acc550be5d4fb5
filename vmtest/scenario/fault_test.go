//go:build vm

package scenario

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
)

// moments are where a fault strikes: while the hardware is looked at, while the
// image is written, and when the installed system is about to start.
var moments = []struct {
	name, event string
	deploy      bool
}{
	{"commissioning", "inventory begun", false},
	{"writing", "write begun", true},
	{"just after", "enter done", true},
}

// struck asks for a commission or a deploy, lets a fault happen at its moment,
// and demands that the machine arrives without a person's hand.
func struck(t *testing.T, r *rig, strike func()) {
	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			r.t = t
			seen := len(r.events())
			var op *operator.Operation
			if m.deploy {
				op = r.deploy(nil)
			} else {
				var err error
				op, err = machines().MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: r.id})
				if err != nil {
					t.Fatal(err)
				}
			}
			from := r.Console.Position()
			r.eventAfter(seen, m.event)
			strike()
			r.succeeds(op)
			if !m.deploy {
				r.is("ready")
				return
			}
			r.is("deployed")
			if r.get().GetDeployment().GetProvenAt() == nil {
				t.Error("deployed without a proof")
			}
			r.sees(from, `ingot-tiny: up hostname=`+r.Spec.Name+`-host`)
		})
		if t.Failed() {
			return
		}
		if m.deploy {
			r.t = t
			release(r)
		}
	}
}

// TestPlugPulled cuts the power at each moment; the disks lose what was not
// flushed.
func TestPlugPulled(t *testing.T) {
	r := newRig(t, "plug")
	r.ready()
	struck(t, r, func() {
		if err := r.PullPlug(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestControllerKilled ends ingotd as kill -9 does, at each moment. The machine
// must not need another POST for it.
func TestControllerKilled(t *testing.T) {
	r := newRig(t, "plug")
	r.ready()
	struck(t, r, func() {
		c := world.lab.Controller()
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDatabaseAway stops every process of PostgreSQL for ten seconds, at each
// moment.
func TestDatabaseAway(t *testing.T) {
	r := newRig(t, "plug")
	r.ready()
	struck(t, r, func() {
		stop, err := postgres()
		if err != nil {
			t.Fatal(err)
		}
		send(t, stop, syscall.SIGSTOP)
		pause(t.Context(), 10*time.Second) // the fault itself lasts so long
		send(t, stop, syscall.SIGCONT)
	})
}

func send(t *testing.T, pids []int, s syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		// A backend may have ended by itself meanwhile.
		if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
}

// postgres lists the lab's postmaster and its children.
func postgres() ([]int, error) {
	files, err := filepath.Glob(filepath.Join(world.lab.Controller().DataDir(), "postgres", "*", "postmaster.pid"))
	if err == nil && len(files) == 0 {
		files = []string{filepath.Join(world.lab.Controller().DataDir(), "postgres", "postmaster.pid")}
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(files[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first := bufio.NewScanner(f)
	first.Scan()
	master, err := strconv.Atoi(strings.TrimSpace(first.Text()))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", files[0], err)
	}
	pids := []int{master}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
	for _, word := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

func (r *rig) events() []*operator.Event {
	r.t.Helper()
	var all []*operator.Event
	for token := ""; ; {
		list, err := operator.NewEventServiceClient(world.conn).EventList(r.t.Context(), &operator.EventListRequest{Machine: r.id, PageSize: 200, PageToken: token})
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, list.GetEvents()...)
		if token = list.GetNextPageToken(); token == "" {
			return all
		}
	}
}

// eventAfter waits for an event with the words that comes after so many others.
func (r *rig) eventAfter(seen int, words string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	watch, err := operator.NewEventServiceClient(world.conn).EventWatch(ctx, &operator.EventWatchRequest{Machine: r.id, ResumeToken: "0"})
	for err == nil {
		var e *operator.Event
		if e, err = watch.Recv(); err == nil && e.GetSequence() > uint64(seen) && strings.Contains(e.GetText(), words) {
			return
		}
	}
	r.t.Fatalf("%s: no event with %q: %v", r.Spec.Name, words, err)
}
