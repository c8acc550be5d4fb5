package redfish

import (
	"context"
	"strings"

	"github.com/ingot-metal/ingot/controller/power"
)

// Identify reads who the system and its manager are.
func (d *Driver) Identify(ctx context.Context) (power.Identity, error) {
	const asked = "identify"
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return power.Identity{}, err
	}
	defer leave()
	s, _, err := d.system(ctx, asked)
	if err != nil {
		return power.Identity{}, err
	}
	firmware, err := d.firmware(ctx, asked, s)
	if err != nil {
		return power.Identity{}, err
	}
	known, err := d.resetTypes(ctx, asked, s)
	if err != nil {
		return power.Identity{}, err
	}
	id := power.Identity{
		Driver: "redfish", Vendor: power.Clean(s.Manufacturer), Model: power.Clean(s.Model), Serial: power.Clean(s.SerialNumber),
		SKU: power.Clean(s.SKU), Firmware: firmware, SystemUUID: strings.ToLower(power.Clean(s.UUID)),
		CertificateSHA256: d.client.fingerprint(),
	}
	for _, r := range known {
		id.Resets = append(id.Resets, power.Clean(string(r)))
	}
	d.firmwareSeen = firmware
	d.quirks, d.flags = d.target.Quirks.Match(s.Manufacturer, s.Model, firmware)
	id.Quirks, id.Flags = d.quirks, d.flags
	return id, nil
}

// firmware is the version of the manager; a BMC without that link has none to
// tell, which is no error.
func (d *Driver) firmware(ctx context.Context, asked string, s *system) (string, error) {
	if len(s.Links.ManagedBy) == 0 {
		return "", nil
	}
	var m struct{ FirmwareVersion string }
	if _, err := d.client.get(ctx, asked, s.Links.ManagedBy[0].ID, &m, d.flags.BasicAuth); err != nil {
		if power.KindOf(err) == power.ErrUnsupported {
			return "", nil
		}
		return "", err
	}
	return power.Clean(m.FirmwareVersion), nil
}
