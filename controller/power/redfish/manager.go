package redfish

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/ingot-metal/ingot/controller/power"
)

// manager is the part of a Manager that is used here: the BMC itself.
type manager struct {
	Actions struct {
		Reset struct {
			Target string              `json:"target"`
			Types  []schemas.ResetType `json:"ResetType@Redfish.AllowableValues"`
		} `json:"#Manager.Reset"`
	}
}

// RestartBMC asks the manager of the system for a GracefulRestart, or for a
// ForceRestart where it knows only that (DSP0268, Manager.Reset).
func (d *Driver) RestartBMC(ctx context.Context) error {
	const asked = "restart BMC"
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return err
	}
	defer leave()
	s, _, err := d.system(ctx, asked)
	if err != nil {
		return err
	}
	if len(s.Links.ManagedBy) == 0 || s.Links.ManagedBy[0].ID == "" {
		return d.client.fail(power.ErrUnsupported, asked, "the system names no manager", "restart the BMC by hand", nil)
	}
	path := s.Links.ManagedBy[0].ID
	var m manager
	if _, err := d.client.get(ctx, asked, path, &m, d.flags.BasicAuth); err != nil {
		return err
	}
	way := schemas.GracefulRestartResetType
	if known := m.Actions.Reset.Types[:min(len(m.Actions.Reset.Types), maxResets)]; !slices.Contains(known, way) {
		way = schemas.ForceRestartResetType // also where it does not say
	}
	target := m.Actions.Reset.Target
	if target == "" {
		target = strings.TrimRight(path, "/") + "/Actions/Manager.Reset"
	}
	a, err := d.client.do(ctx, asked, http.MethodPost, target, nil, map[string]any{"ResetType": way}, d.flags.BasicAuth)
	if err != nil {
		return err
	}
	if err := d.client.check(asked, a); err != nil {
		return err
	}
	d.client.session = session{} // it goes with the restart
	d.client.http.CloseIdleConnections()
	return nil
}
