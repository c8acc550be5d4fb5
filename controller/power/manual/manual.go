// Package manual is the power driver for machines without a BMC: a person
// presses the buttons, and every error says which.
package manual

import (
	"context"

	"github.com/ingot-metal/ingot/controller/power"
)

// New is the power.Factory of "manual:".
func New(power.Target) (power.Driver, error) { return driver{}, nil }

type driver struct{}

// State is always unknown: nobody asks the machine.
func (driver) State(ctx context.Context) (power.State, error) { return power.StateUnknown, ctx.Err() }

func (driver) On(context.Context) error {
	return unsupported("power on", "press the machine's power button")
}

func (driver) Off(context.Context) error {
	return unsupported("power off", "hold the machine's power button until it is off, or pull its plugs")
}

func (driver) SoftOff(context.Context) error {
	return unsupported("soft power off", "shut the machine down from its console, or press its power button once")
}

func (driver) Reset(context.Context) error {
	return unsupported("reset", "press the machine's reset button")
}

func (driver) RestartBMC(context.Context) error {
	return unsupported("restart BMC", "there is nothing to restart")
}

func (driver) BootGet(context.Context) (power.Readback, error) {
	return power.Readback{}, unsupported("read boot override", "look at the boot order in the machine's firmware setup")
}

func (driver) BootSet(_ context.Context, o power.BootOverride) (power.Readback, error) {
	what := map[power.Device]string{
		power.DevicePXE:   "choose network boot in the machine's boot menu",
		power.DeviceHTTP:  "choose UEFI HTTP boot in the machine's boot menu",
		power.DeviceDisk:  "choose the disk in the machine's boot menu",
		power.DeviceSetup: "enter the machine's firmware setup when it starts",
		power.DeviceNone:  "let the machine start by its own boot order",
	}
	return power.Readback{}, unsupported("set boot override "+o.String(), what[o.Device])
}

func (driver) Identify(ctx context.Context) (power.Identity, error) {
	return power.Identity{Driver: "manual"}, ctx.Err()
}

func (driver) Close(context.Context) error { return nil }

func unsupported(asked, do string) error {
	return &power.Error{Kind: power.ErrUnsupported, BMC: "manual", Asked: asked,
		Got: "this machine has no BMC configured", Do: do + ", or give it a BMC with: ingot bmc set"}
}
