// Package ipmi drives a machine's power and boot flags through IPMI 2.0 over
// LAN (RMCP+, "lanplus"), with go-ipmi as the codec.
//
// The session is opened step by step here, with cipher suites 17 and then 3
// named outright: asking a BMC which suites it has costs 15 seconds on some
// and hangs on others. A guard between go-ipmi and the socket lets only
// packets through that are whole, and inside a session only those that are
// signed by the BMC; see guard.go.
package ipmi

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/controller/power"
)

const (
	defaultPort = 623
	// resend is how long one packet waits for its answer, resends how often it
	// is sent again: BMCs lose packets, and answer in milliseconds or not.
	resend  = 1 * time.Second
	resends = 4
	// callTimeout is for callers whose ctx has no deadline.
	callTimeout = 30 * time.Second
	// idle is when a session is too old to be used again: BMCs drop one after
	// 60 seconds of silence (IPMI 2.0, section 6.12.15).
	idle = 30 * time.Second
	// closing bounds the good-bye to a BMC.
	closing = 2 * time.Second
)

// Driver is one BMC.
type Driver struct {
	target power.Target
	host   string
	port   int
	suites []types.CipherSuiteID
	turn   chan struct{} // holds one token: one call at a time

	// What follows is used by the holder of the turn only.
	closed  bool
	session *client.Client
	line    *dialer // of the session
	used    time.Time
}

// New is the power.Factory of ipmi://.
func New(t power.Target) (power.Driver, error) {
	d := &Driver{target: t, host: t.URL.Hostname(), port: defaultPort, turn: make(chan struct{}, 1),
		suites: []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}}
	if d.host == "" {
		return nil, fmt.Errorf("ipmi address %s: no host; write ipmi://10.0.0.7", t.URL.Redacted())
	}
	if p := t.URL.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("ipmi address %s: port %q is not one", t.URL.Redacted(), p)
		}
		d.port = int(n)
	}
	if c := t.URL.Query().Get("cipher"); c != "" {
		switch c {
		case "3":
			d.suites = []types.CipherSuiteID{types.CipherSuiteID3}
		case "17":
			d.suites = []types.CipherSuiteID{types.CipherSuiteID17}
		default:
			return nil, fmt.Errorf("ipmi address %s: cipher suite %q; use 17 or 3, the ones that sign and encrypt", t.URL.Redacted(), c)
		}
	}
	if len(t.User) > 16 || len(t.Password.Reveal()) > 20 {
		return nil, fmt.Errorf("ipmi %s: user names have at most 16 bytes and passwords 20 (IPMI 2.0, section 22)", t.Address())
	}
	d.turn <- struct{}{}
	return d, nil
}

// State reads Get Chassis Status.
func (d *Driver) State(ctx context.Context) (power.State, error) {
	s := power.StateUnknown
	err := d.run(ctx, "read power state", func(ctx context.Context, c *client.Client) error {
		r, err := c.GetChassisStatus(ctx)
		if err == nil && r.PowerIsOn {
			s = power.StateOn
		} else if err == nil {
			s = power.StateOff
		}
		return err
	})
	return s, err
}

// On sends Chassis Control, power up.
func (d *Driver) On(ctx context.Context) error {
	return d.control(ctx, "power on", chassis.ChassisControlPowerUp, wantOn)
}

// Off sends Chassis Control, power down.
func (d *Driver) Off(ctx context.Context) error {
	return d.control(ctx, "power off", chassis.ChassisControlPowerDown, wantOff)
}

// SoftOff sends Chassis Control, soft shutdown (the ACPI button).
func (d *Driver) SoftOff(ctx context.Context) error {
	return d.control(ctx, "soft power off", chassis.ChassisControlSoftShutdown, wantNothing)
}

// Reset sends Chassis Control, hard reset.
func (d *Driver) Reset(ctx context.Context) error {
	return d.control(ctx, "reset", chassis.ChassisControlHardReset, wantNothing)
}

// RestartBMC sends Cold Reset (IPMI 2.0 section 20.2) in a session of its own. A
// BMC that restarts before it answers ends in ErrTimeout.
func (d *Driver) RestartBMC(ctx context.Context) error {
	return d.runIn(ctx, "restart BMC", true, func(ctx context.Context, c *client.Client) error { return c.ColdReset(ctx) })
}

// want is the power state in which a refused order was not needed.
type want int

const (
	wantNothing want = iota
	wantOn
	wantOff
)

// control orders. BMCs that refuse what is so already (0xD5) are content.
func (d *Driver) control(ctx context.Context, asked string, what chassis.ChassisControl, w want) error {
	// What acts anew each time it arrives gets a new session, where it can be
	// sent only once.
	return d.runIn(ctx, asked, w == wantNothing, func(ctx context.Context, c *client.Client) error {
		_, err := c.ChassisControl(ctx, what)
		if r, refused := types.IsResponseError(err); refused && r.CompletionCode() == types.CodeNotSupported && w != wantNothing {
			if s, serr := c.GetChassisStatus(ctx); serr == nil && s.PowerIsOn == (w == wantOn) {
				return nil
			}
		}
		return err
	})
}

// Identify reads Get Device ID, the first FRU and the system GUID.
func (d *Driver) Identify(ctx context.Context) (power.Identity, error) {
	id := power.Identity{Driver: "ipmi", Resets: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}}
	err := d.run(ctx, "identify", func(ctx context.Context, c *client.Client) error {
		dev, err := c.GetDeviceID(ctx)
		if err != nil {
			return err
		}
		id.Vendor = power.Clean(types.OEM(dev.ManufacturerID).String())
		id.Model = fmt.Sprintf("product %d", dev.ProductID)
		id.Firmware = fmt.Sprintf("%d.%02x", dev.MajorFirmwareRevision, dev.MinorFirmwareRevision)
		if g, err := c.GetSystemGUID(ctx); err == nil {
			id.SystemUUID = systemUUID(g.GUID)
		} else if !answered(err) {
			return err
		}
		return fru(ctx, c, &id)
	})
	if err != nil {
		return power.Identity{}, err
	}
	id.Quirks, id.Flags = d.target.Quirks.Match(id.Vendor, id.Model, id.Firmware)
	return id, nil
}

// systemUUID decodes a GUID in the first of the three byte orders in use that
// gives a UUID of a known version: as SMBIOS stores it, fully reversed as IPMI
// 2.0, section 20.8, has it, or as RFC 4122 prints it. It is a guess.
func systemUUID(raw [16]byte) string {
	for _, mode := range []types.GUIDMode{types.GUIDModeSMBIOS, types.GUIDModeIPMI, types.GUIDModeRFC4122} {
		u, err := types.ParseGUID(raw[:], mode)
		if err == nil && u.Variant() == uuid.RFC4122 && u.Version() >= 1 && u.Version() <= 5 {
			return strings.ToLower(u.String())
		}
	}
	if raw == [16]byte{} {
		return ""
	}
	u, err := types.ParseGUID(raw[:], types.GUIDModeSMBIOS)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.String())
}

// fru fills in what the first FRU says. A BMC without one is fine.
func fru(ctx context.Context, c *client.Client, id *power.Identity) error {
	f, err := c.GetFRU(ctx, 0, "")
	if err != nil {
		if answered(err) || ctx.Err() == nil && !timedOut(err) {
			return nil // no FRU, or one that makes no sense: not worth an error
		}
		return err
	}
	if p := f.ProductInfoArea; p != nil {
		set(&id.Vendor, p.Manufacturer)
		set(&id.Model, p.Name)
		set(&id.Serial, p.SerialNumber)
		set(&id.SKU, p.PartModel)
	}
	if b := f.BoardInfoArea; b != nil && id.Serial == "" {
		set(&id.Serial, b.SerialNumber)
	}
	return nil
}

func set(to *string, raw []byte) {
	if s := power.Clean(strings.TrimRight(string(raw), "\x00 ")); s != "" {
		*to = s
	}
}

// Close ends the session at the BMC; the socket goes in any case.
func (d *Driver) Close(ctx context.Context) error {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return fmt.Errorf("close ipmi driver of %s: %w", d.target.Address(), ctx.Err())
	}
	defer func() { d.turn <- struct{}{} }()
	d.closed = true
	return d.hangUp(ctx)
}

// hostport is how go-ipmi wants a host: IPv6 in brackets.
func (d *Driver) hostport() string {
	if ip := net.ParseIP(d.host); ip != nil && ip.To4() == nil {
		return "[" + d.host + "]"
	}
	return d.host
}
