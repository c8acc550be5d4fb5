//go:build vm

package scenario

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
	"github.com/ingot-metal/ingot/vmtest/lab"
)

// limit bounds each wait. Guests under emulation on shared cores are slow; a
// wait that reaches it is a failure, not a measurement.
const limit = 12 * time.Minute

// rig is one machine of the lab in a test's hands.
type rig struct {
	t *testing.T
	*lab.Machine
	id string
}

func machines() operator.MachineServiceClient { return operator.NewMachineServiceClient(world.conn) }

func newRig(t *testing.T, name string) *rig {
	t.Helper()
	m := world.lab.Machine(name)
	if m == nil {
		t.Fatalf("the lab has no machine %s", name)
	}
	r := &rig{t: t, Machine: m}
	t.Cleanup(r.tell)
	return r
}

// tell prints what a failed test's machine went through.
func (r *rig) tell() {
	if !r.t.Failed() || r.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := operator.NewEventServiceClient(world.conn).EventList(ctx, &operator.EventListRequest{Machine: r.id, PageSize: 200})
	if err != nil {
		r.t.Logf("events: %v", err)
	}
	for _, e := range list.GetEvents() {
		r.t.Logf("%s %4d %-9s %s %v", e.GetAt().AsTime().Format("15:04:05"), e.GetSequence(), e.GetKind(), e.GetText(), e.GetDetail())
	}
	for _, e := range r.Truth().Events {
		r.t.Logf("truth: %s %s %s %s %s", e.Time.Format("15:04:05"), e.Kind, e.Source, e.Action, e.Detail)
	}
	if console, err := os.ReadFile(filepath.Join(r.Dir, "console.log")); err == nil {
		r.t.Logf("console, its end:\n%s", console[max(0, len(console)-4000):])
	}
}

// add makes the machine known, with its BMC, and asks for commissioning.
func (r *rig) add() *operator.Operation {
	r.t.Helper()
	m, err := machines().MachineAdd(r.t.Context(), &operator.MachineAddRequest{
		Hostname: r.Spec.Name, Macs: []string{r.MACs[0].String()}, Architecture: "amd64", Commission: true,
		Bmc: &operator.BMCAccess{Url: r.BMCURL, User: lab.BMCUser, Password: lab.BMCPassword},
	})
	if err != nil {
		r.t.Fatalf("add %s: %v", r.Spec.Name, err)
	}
	r.id = m.GetId()
	return &operator.Operation{Id: m.GetOperationId()}
}

// ready adds the machine and waits until it is ready; a machine that an earlier
// test made ready is taken as it is.
func (r *rig) ready() {
	r.t.Helper()
	if m, err := machines().MachineGet(r.t.Context(), &operator.MachineGetRequest{Machine: r.Spec.Name}); err == nil {
		r.id = m.GetId()
		return
	}
	r.succeeds(r.add())
	r.is("ready")
}

// wait waits for the end of an operation.
func (r *rig) wait(op *operator.Operation) *operator.Operation {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	last := op
	for {
		watch, err := operator.NewOperationServiceClient(world.conn).OperationWatch(ctx, &operator.OperationGetRequest{Operation: op.GetId()})
		for err == nil {
			var next *operator.Operation
			if next, err = watch.Recv(); err == nil {
				last = next
			}
		}
		if errors.Is(err, io.EOF) && last.GetFinishedAt() != nil {
			return last
		}
		if ctx.Err() != nil {
			r.t.Fatalf("operation %s did not end within %s; it is %s, %s", op.GetId(), limit, last.GetState(), last.GetPhase())
		}
		// The controller may be away for a moment: some scenarios kill it.
		pause(ctx, 500*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (r *rig) succeeds(op *operator.Operation) *operator.Operation {
	r.t.Helper()
	end := r.wait(op)
	if end.GetState() != "succeeded" {
		r.t.Fatalf("%s of %s: got %s, %s: %s", end.GetKind(), r.Spec.Name, end.GetState(), end.GetReason(), end.GetReasonText())
	}
	return end
}

// fails demands a failure with a named cause.
func (r *rig) fails(op *operator.Operation, reason string) {
	r.t.Helper()
	end := r.wait(op)
	if end.GetState() != "failed" || end.GetReason() != reason || end.GetNextStep() == "" {
		r.t.Fatalf("%s of %s: got %s, %q (%s; next: %s), want failed, %q", end.GetKind(), r.Spec.Name, end.GetState(), end.GetReason(), end.GetReasonText(), end.GetNextStep(), reason)
	}
}

func (r *rig) get() *operator.Machine {
	r.t.Helper()
	m, err := machines().MachineGet(r.t.Context(), &operator.MachineGetRequest{Machine: r.id})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *rig) is(state string) {
	r.t.Helper()
	if got := stateWord(r.get().GetState()); got != state {
		r.t.Fatalf("%s: got %s, want %s", r.Spec.Name, got, state)
	}
}

// deploy asks for the tiny system; change may alter the request.
func (r *rig) deploy(change func(*operator.MachineDeployRequest)) *operator.Operation {
	r.t.Helper()
	req := &operator.MachineDeployRequest{Machine: r.id, Image: world.image, Hostname: r.Spec.Name + "-host"}
	if change != nil {
		change(req)
	}
	op, err := machines().MachineDeploy(r.t.Context(), req)
	if err != nil {
		r.t.Fatalf("deploy %s: %v", r.Spec.Name, err)
	}
	return op
}

// posts demands how often firmware ran so far.
func (r *rig) posts(want int) {
	r.t.Helper()
	if got := r.Truth().Counters.POSTs(); got != want {
		r.t.Errorf("%s: got %d POSTs, want %d", r.Spec.Name, got, want)
	}
}

// sees waits for a line on the console from a position on.
func (r *rig) sees(from int64, pattern string) []string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	match, _, err := r.Console.Wait(ctx, from, regexp.MustCompile(pattern))
	if err != nil {
		r.t.Fatalf("%s: waiting for %q on the console: %v", r.Spec.Name, pattern, err)
	}
	return match
}
