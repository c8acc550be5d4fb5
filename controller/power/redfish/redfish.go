// Package redfish drives a machine's power and boot override through the
// Redfish service of its BMC (DMTF DSP0266, schemas DSP8010).
//
// The words of the protocol come from gofish's schemas; the few documents that
// matter are decoded into small structs of our own, because decoding a whole
// ComputerSystem fails on one odd attribute of one vendor, and because every
// answer is hostile: bounded in size, never followed to another host.
package redfish

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/ingot-metal/ingot/controller/power"
)

// Driver is one Redfish service and one system behind it.
type Driver struct {
	target power.Target
	client *client
	log    *slog.Logger
	turn   chan struct{} // holds one token: one call at a time
	want   string        // id of the system asked for, may be empty

	// What follows is used by the holder of the turn only.
	closed bool
	path   string // of the system, once found
	flags  power.Flags
	quirks []string
	// firmwareSeen is the manager's version once Identify has read it.
	firmwareSeen string
}

// New is the power.Factory of redfish://, redfish+https:// and redfish+http://.
func New(t power.Target) (power.Driver, error) {
	if t.URL.Host == "" {
		return nil, fmt.Errorf("redfish address %s: no host; write redfish://10.0.0.7", t.URL.Redacted())
	}
	if t.User == "" {
		return nil, fmt.Errorf("redfish %s: a user is needed", t.Address())
	}
	log := t.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	base := &url.URL{Scheme: "https", Host: t.URL.Host}
	if t.URL.Scheme == "redfish+http" {
		base.Scheme = "http"
		log.Warn("Redfish without TLS: the password can be read on the wire")
	}
	d := &Driver{target: t, client: newClient(t, base), log: log, turn: make(chan struct{}, 1), want: t.URL.Query().Get("system")}
	d.turn <- struct{}{}
	return d, nil
}

// enter takes the turn and finds the system if that was not done yet.
func (d *Driver) enter(ctx context.Context, asked string) (leave func(), err error) {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return nil, &power.Error{Kind: power.ErrBusy, BMC: d.target.Address(), Asked: asked, Got: "not begun", Err: ctx.Err()}
	}
	leave = func() { d.turn <- struct{}{} }
	switch {
	case d.closed:
		err = &power.Error{Kind: power.ErrUnsupported, BMC: d.target.Address(), Asked: asked, Got: "the driver is closed"}
	case ctx.Err() != nil:
		err = &power.Error{Kind: power.ErrBusy, BMC: d.target.Address(), Asked: asked, Got: "not begun", Err: ctx.Err()}
	}
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// State reads PowerState; a system that is powering on or off is unknown.
func (d *Driver) State(ctx context.Context) (power.State, error) {
	const asked = "read power state"
	leave, err := d.enter(ctx, asked)
	if err != nil {
		return power.StateUnknown, err
	}
	defer leave()
	sys, _, err := d.system(ctx, asked)
	if err != nil {
		return power.StateUnknown, err
	}
	switch sys.PowerState {
	case schemas.OnPowerState:
		return power.StateOn, nil
	case schemas.OffPowerState:
		return power.StateOff, nil
	}
	return power.StateUnknown, nil
}

// On asks for the first of On, ForceOn and, on a machine that is off,
// PushPowerButton that the BMC knows.
func (d *Driver) On(ctx context.Context) error {
	return d.reset(ctx, "power on", func(s *system) []schemas.ResetType {
		ways := []schemas.ResetType{schemas.OnResetType, schemas.ForceOnResetType}
		if s.PowerState == schemas.OffPowerState {
			ways = append(ways, schemas.PushPowerButtonResetType)
		}
		return ways
	})
}

// Off asks for ForceOff.
func (d *Driver) Off(ctx context.Context) error {
	return d.reset(ctx, "power off", func(*system) []schemas.ResetType {
		return []schemas.ResetType{schemas.ForceOffResetType}
	})
}

// SoftOff asks for GracefulShutdown, or presses the button of a machine that
// is on.
func (d *Driver) SoftOff(ctx context.Context) error {
	return d.reset(ctx, "soft power off", func(s *system) []schemas.ResetType {
		ways := []schemas.ResetType{schemas.GracefulShutdownResetType}
		if s.PowerState == schemas.OnPowerState {
			ways = append(ways, schemas.PushPowerButtonResetType)
		}
		return ways
	})
}

// Reset asks for ForceRestart, or PowerCycle.
func (d *Driver) Reset(ctx context.Context) error {
	return d.reset(ctx, "reset", func(*system) []schemas.ResetType {
		return []schemas.ResetType{schemas.ForceRestartResetType, schemas.PowerCycleResetType}
	})
}

// Close ends the session at the BMC.
func (d *Driver) Close(ctx context.Context) error {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return fmt.Errorf("close redfish driver of %s: %w", d.target.Address(), ctx.Err())
	}
	defer func() { d.turn <- struct{}{} }()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.client.logout(ctx)
}
