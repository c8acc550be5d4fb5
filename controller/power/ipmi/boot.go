package ipmi

import (
	"context"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/controller/power"
)

// selectors pairs our words with the boot device selectors of parameter 5.
var selectors = map[power.Device]types.BootDeviceSelector{
	power.DeviceNone: types.BootDeviceSelectorNoOverride, power.DevicePXE: types.BootDeviceSelectorForcePXE,
	power.DeviceDisk: types.BootDeviceSelectorForceHardDrive, power.DeviceSetup: types.BootDeviceSelectorForceBIOSSetup,
}

// BootGet reads the boot flags (parameter 5).
func (d *Driver) BootGet(ctx context.Context) (r power.Readback, err error) {
	err = d.run(ctx, "read boot override", func(ctx context.Context, c *client.Client) error {
		r, err = readFlags(ctx, c)
		return err
	})
	return r, err
}

// readFlags translates parameter 5. A BMC that never had flags may answer
// "parameter not supported" (0x80): then there is no override.
func readFlags(ctx context.Context, c *client.Client) (power.Readback, error) {
	var f types.BootOptionParam_BootFlags
	if err := c.GetSystemBootOptionsParamFor(ctx, &f); err != nil {
		if code(err) == types.CodeParameterNotSupported {
			return power.Readback{Override: power.BootOverride{Device: power.DeviceNone}, Raw: "parameter 5: not set"}, nil
		}
		return power.Readback{}, err
	}
	r := power.Readback{Raw: fmt.Sprintf("parameter 5: % x", f.Pack()), Override: power.BootOverride{Device: power.DeviceOther}}
	if !f.BootFlagsValid || f.BootDeviceSelector == types.BootDeviceSelectorNoOverride {
		r.Override = power.BootOverride{Device: power.DeviceNone}
		return r, nil
	}
	for d, s := range selectors {
		if s == f.BootDeviceSelector {
			r.Override.Device = d
		}
	}
	r.Override.Once, r.Override.Mode = !f.Persist, power.ModeBIOS
	if f.BIOSBootType == types.BIOSBootTypeEFI {
		r.Override.Mode = power.ModeUEFI
	}
	return r, nil
}

// BootSet writes the boot flags and reads them back. ModeAny means UEFI here:
// the EFI bit has no third value, and without it UEFI machines look for a
// legacy boot record.
func (d *Driver) BootSet(ctx context.Context, o power.BootOverride) (r power.Readback, err error) {
	asked := "set boot override " + o.String()
	if err := o.Validate(); err != nil {
		return r, d.fail(power.ErrUnsupported, asked, err.Error(), "ask for something else", err)
	}
	if o.Device == power.DeviceHTTP {
		return r, d.fail(power.ErrUnsupported, asked, "IPMI has no word for HTTP boot",
			"ask for pxe: UEFI firmware then tries its network entries, HTTP among them; or use Redfish", nil)
	}
	if o.Device != power.DeviceNone && o.Mode == power.ModeAny {
		o.Mode = power.ModeUEFI
	}
	err = d.run(ctx, asked, func(ctx context.Context, c *client.Client) error {
		kept, err := writeFlags(ctx, c, o)
		if err != nil {
			return err
		}
		if r, err = readFlags(ctx, c); err != nil {
			return err
		}
		if !kept && o.Device != power.DeviceNone {
			r.Warning = "this BMC forgets boot flags after 60 seconds without a power command: order the power on at once"
		}
		if o.Device == power.DeviceNone {
			o = power.BootOverride{Device: power.DeviceNone}
		}
		if r.Override != o {
			return d.fail(power.ErrIgnored, asked, "read back: "+r.Raw+", which is "+r.Override.String(),
				"reset the BMC; update its firmware if that does not help, or use Redfish", nil)
		}
		return nil
	})
	return r, err
}

// writeFlags follows the protocol of table 28-14: begin, keep the flags from
// running out, ask the firmware to take them, write, end. It reports whether
// the BMC promised to keep them longer than 60 seconds. What a BMC does not
// know of all this, except the flags themselves, is left out.
func writeFlags(ctx context.Context, c *client.Client, o power.BootOverride) (kept bool, err error) {
	if err := begin(ctx, c); err != nil {
		return false, err
	}
	ended := false
	defer func() {
		if !ended { // never leave a BMC locked
			_ = c.SetBootParamSetInProgress(ctx, types.SetInProgress_SetComplete)
		}
	}()
	err = optional(c.SetSystemBootOptionsParamFor(ctx, &types.BootOptionParam_BMCBootFlagValidBitClear{
		DontClearOnCommandReceivedTimeout: true, DontClearOnResetPushButtonOrSoftReset: true,
	}))
	if err != nil && !isSkipped(err) {
		return false, err
	}
	kept = err == nil
	err = optional(c.SetSystemBootOptionsParamFor(ctx, &types.BootOptionParam_BootInfoAcknowledge{ByBIOSPOST: true}))
	if err != nil && !isSkipped(err) {
		return kept, err
	}
	flags := &types.BootOptionParam_BootFlags{
		BootFlagsValid: o.Device != power.DeviceNone, Persist: o.Device != power.DeviceNone && !o.Once,
		BIOSBootType: types.BIOSBootType(o.Mode == power.ModeUEFI), BootDeviceSelector: selectors[o.Device],
	}
	if err := c.SetSystemBootOptionsParamFor(ctx, flags); err != nil {
		return kept, err
	}
	ended = true
	err = optional(c.SetBootParamSetInProgress(ctx, types.SetInProgress_SetComplete))
	if err != nil && !isSkipped(err) {
		return kept, err
	}
	return kept, nil
}

// begin sets "set in progress". Where somebody else left it set (0x81), and we
// are the one controller, it is ended and begun anew.
func begin(ctx context.Context, c *client.Client) error {
	err := c.SetBootParamSetInProgress(ctx, types.SetInProgress_SetInProgress)
	if code(err) == types.CodeParamConfigSetInProgressConflict {
		if err := c.SetBootParamSetInProgress(ctx, types.SetInProgress_SetComplete); err != nil {
			return err
		}
		err = c.SetBootParamSetInProgress(ctx, types.SetInProgress_SetInProgress)
	}
	if err = optional(err); isSkipped(err) {
		return nil
	}
	return err
}

// skipped is the refusal of something a BMC need not know.
type skipped struct{ error }

func optional(err error) error {
	switch code(err) {
	case types.CodeParameterNotSupported, types.CodeParamConfigSetReadOnly, types.CodeInvalidCommand, types.CodeParameterOutOfRange,
		types.CodeRequestDataFieldInvalid, types.CodeNotSupported:
		return skipped{err}
	}
	return err
}

func isSkipped(err error) bool { _, ok := err.(skipped); return ok }

// code is the completion code of err, zero if there is none.
func code(err error) types.CompletionCode {
	if r, ok := types.IsResponseError(err); ok {
		return r.CompletionCode()
	}
	return types.CodeOK
}
