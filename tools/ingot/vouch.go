package main

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

// holds says what a disk may hold of an owner's; "" when nothing.
func holds(d *operator.DiskData) string {
	if d == nil {
		return ""
	}
	how := "within reach of"
	if d.GetWritten() {
		how = "written by"
	}
	return fmt.Sprintf("%s %s in %s, %s", how, d.GetOperationId(), d.GetMachineId(), clock(d.GetSince()))
}

// diskName is what a disk is called by: its serial, else its WWN.
func diskName(d interface {
	GetSerial() string
	GetWwn() string
}) string {
	return cmp.Or(d.GetSerial(), d.GetWwn())
}

// vouch shows what the disks hold that a person is about to vouch for, and asks.
func (c *cli) vouch(ctx context.Context, conn *grpc.ClientConn, r *operator.MachineCommissionRequest) error {
	m, err := operator.NewMachineServiceClient(conn).MachineGet(ctx, &operator.MachineGetRequest{Machine: r.GetMachine()})
	if err != nil {
		return err
	}
	for _, name := range r.GetVouchedDisks() {
		what := heldBy(m, name)
		if what == "" {
			return fmt.Errorf("disk %q is none of those of machine %s that hold data: ingot machine show %s", name, m.GetId(), m.GetId())
		}
		fmt.Fprintln(c.errOut, clean(what))
	}
	question := "Do you vouch that nothing of that is left, and may another owner get the machine?"
	return c.confirm(question, "--yes")
}

// heldBy says what a machine's disk may hold; "" when there is no such disk, or
// nothing on it.
func heldBy(m *operator.Machine, name string) string {
	for _, d := range m.GetDisks() {
		if what := holds(d.GetHoldsData()); what != "" && diskName(d) == name {
			return fmt.Sprintf("disk %s (%s, %s): %s", name, cmp.Or(d.GetModel(), "model unknown"), size(d.GetSizeBytes()), what)
		}
	}
	for _, d := range m.GetLostDisks() {
		if diskName(d) == name {
			return fmt.Sprintf("disk %s (%s, missing): %s", name, cmp.Or(d.GetModel(), "model unknown"), holds(d.GetHoldsData()))
		}
	}
	return ""
}
