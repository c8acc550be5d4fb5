package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
	"github.com/ingot-metal/ingot/vmtest/lab"
)

// machine sends one machine from its first power-on to its proof of life; the
// whole circle also releases and erases it.
func (d *demo) machine(ctx context.Context, m lab.MachineStatus, circle bool, out *Machine) error {
	*out = Machine{Name: m.Name, Firmware: m.Firmware, Phases: map[string]float64{}, Warnings: []string{}}
	client := operator.NewMachineServiceClient(d.conn)
	added, err := client.MachineAdd(ctx, &operator.MachineAddRequest{
		Hostname: m.Name, Macs: []string{m.MAC}, Architecture: "amd64", Commission: true,
		Bmc: &operator.BMCAccess{Url: m.BMC, User: d.status.BMCUser, Password: d.status.BMCPass},
	})
	if err != nil {
		return err
	}
	d.name(added.GetId(), m.Name)
	defer func() { d.fill(context.WithoutCancel(ctx), added.GetId(), out) }()
	if err := d.operation(ctx, added.GetOperationId(), "commission", out); err != nil {
		return err
	}
	op, err := client.MachineDeploy(ctx, &operator.MachineDeployRequest{Machine: added.GetId(), Image: d.image.GetDigest(), Hostname: m.Name + "-demo"})
	if err != nil {
		return err
	}
	if err := d.operation(ctx, op.GetId(), "deploy", out); err != nil {
		return err
	}
	if err := d.proven(ctx, added.GetId(), m.Name, out); err != nil {
		return err
	}
	if !circle {
		return nil
	}
	if op, err = client.MachineRelease(ctx, &operator.MachineReleaseRequest{Machine: added.GetId(), Erase: true, DiskSerials: m.Serials}); err != nil {
		return err
	}
	return d.operation(ctx, op.GetId(), "release", out)
}

// proven notes what stood when the installed system had reported: the POSTs
// until then are those that count.
func (d *demo) proven(ctx context.Context, id, name string, out *Machine) error {
	posts, err := d.posts(ctx, name)
	if err != nil {
		return err
	}
	out.POSTs = posts
	m, err := operator.NewMachineServiceClient(d.conn).MachineGet(ctx, &operator.MachineGetRequest{Machine: id})
	if err != nil {
		return err
	}
	p := m.GetDeployment()
	out.Kexec = p.GetEnteredBy() == "kexec"
	out.ImageDigest, out.BytesFetched, out.BytesWritten = p.GetImageDigest(), p.GetBytesFetched(), p.GetBytesWritten()
	out.Phases["flushed"], out.Phases["verified"] = p.GetFlushedAfter().AsDuration().Seconds(), p.GetVerifiedAfter().AsDuration().Seconds()
	if p.GetProvenAt() == nil {
		return errors.New("deployed without the installed system's report")
	}
	return nil
}

func (d *demo) posts(ctx context.Context, name string) (int, error) {
	s, err := d.cfg.Lab.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range s.Machines {
		if m.Name == name {
			return m.POSTs, nil
		}
	}
	return 0, fmt.Errorf("the lab does not know %s any more", name)
}

// operation waits for an operation and notes how long it took.
func (d *demo) operation(ctx context.Context, id, phase string, out *Machine) error {
	watch, err := operator.NewOperationServiceClient(d.conn).OperationWatch(ctx, &operator.OperationGetRequest{Operation: id})
	if err != nil {
		return err
	}
	begun := time.Now()
	last := &operator.Operation{}
	for tenth := uint64(0); ; {
		op, err := watch.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = op
		if p := op.GetProgress(); p.GetTotalBytes() > 0 && 10*p.GetDoneBytes()/p.GetTotalBytes() > tenth {
			tenth = 10 * p.GetDoneBytes() / p.GetTotalBytes()
			d.line(out.Name, "progress", fmt.Sprintf("%s: %d0 %% of %.0f MiB, %.0f MiB/s", op.GetPhase(), tenth, mib(p.GetTotalBytes()), mib(p.GetBytesPerSecond())))
		}
	}
	out.Phases[phase] = time.Since(begun).Seconds()
	if last.GetState() != "succeeded" {
		return fmt.Errorf("%s %s: %s: %s; %s", phase, last.GetState(), last.GetReason(), last.GetReasonText(), last.GetNextStep())
	}
	return nil
}

// fill notes how the machine ended.
func (d *demo) fill(ctx context.Context, id string, out *Machine) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if posts, err := d.posts(ctx, out.Name); err == nil {
		out.POSTsTotal = posts
	}
	m, err := operator.NewMachineServiceClient(d.conn).MachineGet(ctx, &operator.MachineGetRequest{Machine: id})
	if err != nil {
		return // the run's own error says more
	}
	out.State = stateWord(m.GetState())
	for _, w := range m.GetWarnings() {
		out.Warnings = append(out.Warnings, w.GetCode()+": "+w.GetText())
	}
}
