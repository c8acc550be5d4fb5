package redfish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/ingot-metal/ingot/controller/power"
)

// link is a reference to another document.
type link struct {
	ID string `json:"@odata.id"`
}

// system is the part of a ComputerSystem that is used here.
type system struct {
	ID           string `json:"Id"`
	Manufacturer string
	Model        string
	SerialNumber string
	SKU          string
	UUID         string
	SystemType   string
	PowerState   schemas.PowerState
	Boot         boot
	Actions      struct {
		Reset struct {
			Target string              `json:"target"`
			Types  []schemas.ResetType `json:"ResetType@Redfish.AllowableValues"`
			Info   string              `json:"@Redfish.ActionInfo"`
		} `json:"#ComputerSystem.Reset"`
	}
	Links struct {
		ManagedBy []link
	}
	Settings struct {
		Object link `json:"SettingsObject"`
	} `json:"@Redfish.Settings"`
}

// maxSystems bounds a collection, maxResets a list of reset types.
const (
	maxSystems = 64
	maxResets  = 32
)

// system reads the system's document, finding it first if need be. A BMC that
// answers 404 for a path it gave out is walked through once more from the top:
// some know a path only after its parent was asked for.
func (d *Driver) system(ctx context.Context, asked string) (*system, *answer, error) {
	for first := true; ; first = false {
		found := false
		if d.path == "" {
			if err := d.find(ctx, asked); err != nil {
				return nil, nil, err
			}
			found = true
		}
		var s system
		a, err := d.client.get(ctx, asked, d.path, &s, d.flags.BasicAuth)
		if a != nil && a.status == http.StatusNotFound && first && !found {
			d.path = ""
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if len(s.Actions.Reset.Types) > maxResets {
			s.Actions.Reset.Types = s.Actions.Reset.Types[:maxResets]
		}
		d.quirks, d.flags = d.target.Quirks.Match(s.Manufacturer, s.Model, d.firmwareSeen)
		return &s, a, nil
	}
}

// find walks from the service root to the system.
func (d *Driver) find(ctx context.Context, asked string) error {
	var root struct{ Systems link }
	if _, err := d.client.get(ctx, asked, rootPath, &root, d.flags.BasicAuth); err != nil {
		return err
	}
	if root.Systems.ID == "" {
		root.Systems.ID = "/redfish/v1/Systems"
	}
	var all struct{ Members []link }
	if _, err := d.client.get(ctx, asked, root.Systems.ID, &all, d.flags.BasicAuth); err != nil {
		return err
	}
	if len(all.Members) > maxSystems {
		return d.client.fail(power.ErrProtocol, asked, fmt.Sprintf("%d systems, at most %d are looked at", len(all.Members), maxSystems),
			"check the address: this looks like a whole rack's manager", nil)
	}
	path, err := d.choose(ctx, asked, all.Members)
	if err != nil {
		return err
	}
	d.path = path
	return nil
}

// choose picks the system asked for, or the only one, or the only physical one
// that can be reset.
func (d *Driver) choose(ctx context.Context, asked string, members []link) (string, error) {
	if d.want != "" {
		for _, m := range members {
			if strings.EqualFold(lastPart(m.ID), d.want) {
				return m.ID, nil
			}
		}
		return "", d.client.fail(power.ErrUnsupported, asked, fmt.Sprintf("no system %q, there is %s", power.Clean(d.want), names(members)),
			"correct ?system= in the BMC's address", nil)
	}
	if len(members) == 1 {
		return members[0].ID, nil
	}
	var fit []link
	for _, m := range members {
		var s system
		if _, err := d.client.get(ctx, asked, m.ID, &s, d.flags.BasicAuth); err != nil {
			return "", err
		}
		if s.Actions.Reset.Target != "" && (s.SystemType == "" || s.SystemType == string(schemas.PhysicalSystemType)) {
			fit = append(fit, m)
		}
	}
	if len(fit) == 1 {
		return fit[0].ID, nil
	}
	return "", d.client.fail(power.ErrUnsupported, asked, fmt.Sprintf("%d systems could be meant: %s", len(fit), names(members)),
		"add ?system=ID to the BMC's address", nil)
}

func lastPart(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

func names(members []link) string {
	var n []string
	for _, m := range members[:min(len(members), 8)] {
		n = append(n, lastPart(m.ID))
	}
	return power.Clean(strings.Join(n, ", "))
}

// reset orders the first of the ways that the BMC knows. A BMC that does not
// say what it knows is asked for the first of all.
func (d *Driver) reset(ctx context.Context, asked string, ways func(*system) []schemas.ResetType) error {
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return err
	}
	defer leave()
	s, _, err := d.system(ctx, asked)
	if err != nil {
		return err
	}
	known, err := d.resetTypes(ctx, asked, s)
	if err != nil {
		return err
	}
	wanted := ways(s)
	way := wanted[0]
	if len(known) > 0 {
		i := slices.IndexFunc(wanted, func(w schemas.ResetType) bool { return slices.Contains(known, w) })
		if i < 0 {
			return d.client.fail(power.ErrUnsupported, asked, fmt.Sprintf("the BMC knows the resets %s, not %s", power.Clean(fmt.Sprint(known)), wanted[0]),
				"update the BMC's firmware, or use IPMI for this machine", nil)
		}
		way = wanted[i]
	}
	target := s.Actions.Reset.Target
	if target == "" {
		target = strings.TrimRight(d.path, "/") + "/Actions/ComputerSystem.Reset"
	}
	a, err := d.client.do(ctx, asked, http.MethodPost, target, nil, map[string]any{"ResetType": way}, d.flags.BasicAuth)
	if err != nil {
		return err
	}
	if a.status >= 400 && d.alreadySo(ctx, asked, way) {
		return nil
	}
	return d.client.check(asked, a)
}

// alreadySo: many BMCs refuse with 400 or 409 what is so already.
func (d *Driver) alreadySo(ctx context.Context, asked string, way schemas.ResetType) bool {
	want := map[schemas.ResetType]schemas.PowerState{
		schemas.OnResetType: schemas.OnPowerState, schemas.ForceOnResetType: schemas.OnPowerState,
		schemas.ForceOffResetType: schemas.OffPowerState,
	}[way]
	if want == "" {
		return false
	}
	s, _, err := d.system(ctx, asked)
	return err == nil && s.PowerState == want
}

// resetTypes reads what the BMC can do: in the system's own document, or in
// the ActionInfo that it points to. None means that it does not say.
func (d *Driver) resetTypes(ctx context.Context, asked string, s *system) ([]schemas.ResetType, error) {
	if len(s.Actions.Reset.Types) > 0 || s.Actions.Reset.Info == "" {
		return s.Actions.Reset.Types, nil
	}
	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []schemas.ResetType
		}
	}
	a, err := d.client.do(ctx, asked, http.MethodGet, s.Actions.Reset.Info, nil, nil, d.flags.BasicAuth)
	if err != nil {
		return nil, err
	}
	if a.status >= 300 || json.Unmarshal(a.body, &info) != nil {
		return nil, nil // it does not say
	}
	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues[:min(len(p.AllowableValues), maxResets)], nil
		}
	}
	return nil, nil
}
