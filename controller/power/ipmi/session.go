package ipmi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/controller/power"
)

// run takes the turn, has a session, and calls f with it. Where an old session
// turns out to be lost at the BMC, f runs once more in a new one.
func (d *Driver) run(ctx context.Context, asked string, f func(context.Context, *client.Client) error) error {
	return d.runIn(ctx, asked, false, f)
}

// runIn is run; with fresh set, f runs in a new session and so at most once.
func (d *Driver) runIn(ctx context.Context, asked string, fresh bool, f func(context.Context, *client.Client) error) error {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return d.fail(power.ErrBusy, asked, "not begun", "", ctx.Err())
	}
	defer func() { d.turn <- struct{}{} }()
	if d.closed {
		return d.fail(power.ErrUnsupported, asked, "the driver is closed", "", nil)
	}
	if ctx.Err() != nil {
		return d.fail(power.ErrBusy, asked, "not begun", "", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if d.session != nil && (fresh || time.Since(d.used) > idle) {
		_ = d.hangUp(ctx) // the BMC ends it by itself if this does not arrive
	}
	reused := d.session != nil
	for {
		if d.session == nil {
			if err := d.connect(ctx); err != nil {
				return d.explain(ctx, asked, err)
			}
		}
		err := d.guarded(func() error { return f(ctx, d.session) })
		d.used = time.Now()
		if err == nil || answered(err) {
			return d.explain(ctx, asked, err)
		}
		d.drop()
		if !reused || ctx.Err() != nil || errors.Is(err, errPanic) {
			return d.explain(ctx, asked, err)
		}
		// Silence in an old session: a BMC that restarted ignores packets of
		// sessions it does not know.
		reused = false
	}
}

// errPanic is a panic of the codec on what a BMC sent.
var errPanic = errors.New("the answer cannot be decoded")

// guarded keeps a panic of the codec inside this call.
func (d *Driver) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return f()
}

// connect opens a session with the first suite that the BMC agrees to.
func (d *Driver) connect(ctx context.Context) error {
	var last error
	for _, suite := range d.suites {
		c, err := client.NewClient(d.hostport(), d.port, d.target.User, d.target.Password.Reveal())
		if err != nil {
			return err
		}
		d.line = &dialer{password: d.target.Password, suite: suite}
		c.WithCipherSuiteID(suite).WithMaxPrivilegeLevel(types.PrivilegeLevelAdministrator).
			WithTimeout(resend).WithRetry(resends).WithUDPProxy(d.line)
		err = d.guarded(func() error { return handshake(ctx, c, suite) })
		if err == nil {
			d.session, d.used = c, time.Now()
			return nil
		}
		d.session = c
		d.drop()
		last = err
		if !wrongSuite(err) {
			break // another suite would not help, and might lock the account
		}
	}
	return last
}

// handshake is Open Session, RAKP 1 to 4, and the privilege (IPMI 2.0, section
// 13.15). go-ipmi's own Connect loses the error's type, and starts a goroutine.
func handshake(ctx context.Context, c *client.Client, suite types.CipherSuiteID) error {
	auth, integ, crypt, _ := types.GetCipherSuiteAlgorithms(suite)
	r, err := c.OpenSession(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	if types.AuthAlg(r.AuthAlg) != auth || types.IntegrityAlg(r.IntegrityAlg) != integ || types.CryptAlg(r.CryptAlg) != crypt {
		return fmt.Errorf("open session: %w", errDowngrade)
	}
	if _, err := c.RAKPMessage1(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if _, err := c.RAKPMessage3(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if _, err := c.SetSessionPrivilegeLevel(ctx, types.PrivilegeLevelAdministrator); err != nil {
		return fmt.Errorf("become administrator: %w", err)
	}
	return nil
}

// errDowngrade is a BMC, or somebody between, that answers with weaker
// algorithms than were asked for.
var errDowngrade = errors.New("the BMC chose other algorithms than asked")

// hangUp says good-bye to the BMC and frees the socket.
func (d *Driver) hangUp(ctx context.Context) error {
	if d.session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	c := d.session
	d.session = nil
	if err := d.guarded(func() error { return c.Close(ctx) }); err != nil {
		return d.fail(power.ErrTimeout, "close session", "the session stays open until the BMC ends it", "", err)
	}
	return nil
}

// drop frees the socket of a session that is of no use, without a word to a
// BMC that does not answer anyway.
func (d *Driver) drop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.line.interrupt()
	_ = d.hangUp(ctx) // that the good-bye was not sent is what was wanted
}
