package redfish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/ingot-metal/ingot/controller/power"
)

// boot is the part of Boot that is used here.
type boot struct {
	Target  schemas.BootSource                `json:"BootSourceOverrideTarget"`
	Enabled schemas.BootSourceOverrideEnabled `json:"BootSourceOverrideEnabled"`
	Mode    schemas.BootSourceOverrideMode    `json:"BootSourceOverrideMode"`
	Known   []schemas.BootSource              `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
}

// devices pairs our words with Redfish's.
var devices = map[power.Device]schemas.BootSource{
	power.DeviceNone: schemas.NoneBootSource, power.DevicePXE: schemas.PxeBootSource, power.DeviceHTTP: schemas.UefiHTTPBootSource,
	power.DeviceDisk: schemas.HddBootSource, power.DeviceSetup: schemas.BiosSetupBootSource,
}

// readback translates what a BMC holds.
func (b boot) readback() power.Readback {
	r := power.Readback{Raw: power.Clean(fmt.Sprintf("BootSourceOverrideTarget=%s BootSourceOverrideEnabled=%s BootSourceOverrideMode=%s",
		b.Target, b.Enabled, b.Mode))}
	o := power.BootOverride{Device: power.DeviceOther, Once: b.Enabled == schemas.OnceBootSourceOverrideEnabled}
	for d, s := range devices {
		if s == b.Target {
			o.Device = d
		}
	}
	switch b.Mode {
	case schemas.UEFIBootSourceOverrideMode:
		o.Mode = power.ModeUEFI
	case schemas.LegacyBootSourceOverrideMode:
		o.Mode = power.ModeBIOS
	}
	if b.Enabled == schemas.DisabledBootSourceOverrideEnabled || b.Target == "" || o.Device == power.DeviceNone {
		o = power.BootOverride{Device: power.DeviceNone}
	}
	r.Override = o
	return r
}

// holds reports whether what was read back is what was asked for.
func holds(got, want power.BootOverride) bool {
	if want.Device == power.DeviceNone {
		return got.Device == power.DeviceNone
	}
	return got.Device == want.Device && got.Once == want.Once && (want.Mode == power.ModeAny || got.Mode == want.Mode)
}

// BootGet reads the override: the pending one, where the BMC keeps settings
// apart from what is in force.
func (d *Driver) BootGet(ctx context.Context) (power.Readback, error) {
	const asked = "read boot override"
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return power.Readback{}, err
	}
	defer leave()
	_, b, _, err := d.bootAt(ctx, asked)
	if err != nil {
		return power.Readback{}, err
	}
	return b.readback(), nil
}

// bootAt finds the resource that holds the override, and reads it.
func (d *Driver) bootAt(ctx context.Context, asked string) (path string, b boot, a *answer, err error) {
	s, a, err := d.system(ctx, asked)
	if err != nil {
		return "", boot{}, nil, err
	}
	if s.Settings.Object.ID == "" {
		return d.path, s.Boot, a, nil
	}
	var pending struct{ Boot *boot }
	pa, err := d.client.get(ctx, asked, s.Settings.Object.ID, &pending, d.flags.BasicAuth)
	if err != nil && power.KindOf(err) != power.ErrUnsupported {
		return "", boot{}, nil, err
	}
	if err != nil || pending.Boot == nil {
		return d.path, s.Boot, a, nil // settings for something else, or a link to nothing
	}
	if len(pending.Boot.Known) == 0 {
		pending.Boot.Known = s.Boot.Known
	}
	return s.Settings.Object.ID, *pending.Boot, pa, nil
}

// BootSet writes the override and reads it back.
func (d *Driver) BootSet(ctx context.Context, o power.BootOverride) (power.Readback, error) {
	asked := "set boot override " + o.String()
	if err := o.Validate(); err != nil {
		return power.Readback{}, d.client.fail(power.ErrUnsupported, asked, err.Error(), "ask for something else", err)
	}
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return power.Readback{}, err
	}
	defer leave()
	path, now, a, err := d.bootAt(ctx, asked)
	if err != nil {
		return power.Readback{}, err
	}
	source := devices[o.Device]
	if len(now.Known) > 0 && o.Device != power.DeviceNone && !slices.Contains(now.Known, source) {
		return power.Readback{}, d.client.fail(power.ErrUnsupported, asked,
			fmt.Sprintf("the BMC can boot from %s, not %s", power.Clean(fmt.Sprint(now.Known)), source), "choose another device", nil)
	}
	if err := d.bootWrite(ctx, asked, path, a.etag(), d.bodies(o, now)); err != nil {
		return power.Readback{}, err
	}
	return d.bootVerify(ctx, asked, o)
}

// bodies lists what to send, the most telling first: BMCs differ in whether
// the mode must be repeated or must not be there.
func (d *Driver) bodies(o power.BootOverride, now boot) []map[string]any {
	fields := map[string]any{"BootSourceOverrideTarget": devices[o.Device], "BootSourceOverrideEnabled": schemas.ContinuousBootSourceOverrideEnabled}
	switch {
	case o.Device == power.DeviceNone:
		fields["BootSourceOverrideEnabled"] = schemas.DisabledBootSourceOverrideEnabled
	case o.Once:
		fields["BootSourceOverrideEnabled"] = schemas.OnceBootSourceOverrideEnabled
	}
	mode := now.Mode
	switch o.Mode {
	case power.ModeUEFI:
		mode = schemas.UEFIBootSourceOverrideMode
	case power.ModeBIOS:
		mode = schemas.LegacyBootSourceOverrideMode
	}
	with := map[string]any{"BootSourceOverrideMode": mode}
	for k, v := range fields {
		with[k] = v
	}
	switch {
	case mode == "":
		return []map[string]any{fields}
	case mode != now.Mode, d.flags.RepeatMode:
		return []map[string]any{with} // leaving it out would do something else
	case d.flags.OneBootFieldSet:
		return []map[string]any{fields, with}
	}
	return []map[string]any{with, fields}
}

// bootWrite sends the first body that is not refused for its form.
func (d *Driver) bootWrite(ctx context.Context, asked, path, etag string, bodies []map[string]any) error {
	var err error
	for _, fields := range bodies {
		var a *answer
		a, err = d.patch(ctx, asked, path, etag, map[string]any{"Boot": fields})
		if err != nil {
			return err
		}
		if err = d.client.check(asked, a); err == nil || a.status != http.StatusBadRequest {
			return err
		}
	}
	return err
}

// patch sends with the entity tag, unless quirks forbid it. A tag that is
// stale is read again once; a BMC that then still refuses is told to take any.
func (d *Driver) patch(ctx context.Context, asked, path, etag string, body any) (*answer, error) {
	tags := []string{etag}
	if d.flags.NoIfMatch {
		tags = []string{""}
	}
	for i := 0; ; i++ {
		h := http.Header{}
		if tags[i] != "" {
			h.Set("If-Match", tags[i])
		}
		a, err := d.client.do(ctx, asked, http.MethodPatch, path, h, body, d.flags.BasicAuth)
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusPreconditionFailed && a.status != http.StatusPreconditionRequired || i >= 2 {
			return a, nil
		}
		next := "*"
		if i == 0 {
			fresh, err := d.client.get(ctx, asked, path, &json.RawMessage{}, d.flags.BasicAuth)
			if err != nil {
				return nil, err
			}
			if t := fresh.etag(); t != "" {
				next = t
			}
		}
		tags = append(tags, next)
	}
}

// How often and how long apart an override is read back: some BMCs take a
// moment to show what they stored.
const (
	readbacks    = 4
	readbackWait = 200 * time.Millisecond
)

func (d *Driver) bootVerify(ctx context.Context, asked string, o power.BootOverride) (power.Readback, error) {
	var r power.Readback
	for i := range readbacks {
		if i > 0 {
			select {
			case <-time.After(readbackWait << (i - 1)):
			case <-ctx.Done():
				return r, d.client.transportError(ctx, asked, ctx.Err())
			}
		}
		_, b, _, err := d.bootAt(ctx, asked)
		if err != nil {
			return power.Readback{}, err
		}
		if r = b.readback(); holds(r.Override, o) {
			return r, nil
		}
	}
	return r, d.client.fail(power.ErrIgnored, asked, "read back: "+r.Raw,
		"try it once in the BMC's own web page; update its firmware if it fails there too", nil)
}
