package power

import "context"

// call describes one use of a driver to the wrappers around it.
type call struct {
	name string // fixed phrase, also the key of learned latencies
	// again is true where a second try after an unknown outcome does no harm.
	again bool
}

// The calls. Reset and SoftOff act anew each time they arrive, so they are
// tried again only when the BMC certainly did not take them.
var (
	callState    = call{"read power state", true}
	callOn       = call{"power on", true}
	callOff      = call{"power off", true}
	callSoftOff  = call{"soft power off", false}
	callReset    = call{"reset", false}
	callRestart  = call{"restart BMC", false}
	callBootGet  = call{"read boot override", true}
	callBootSet  = call{"set boot override", true}
	callIdentify = call{"identify", true}
)

// layer is one wrapper: it calls next, or refuses.
type layer func(ctx context.Context, c call, next func(context.Context) error) error

// layered is a Driver with layers around every call; layers[0] is outermost.
type layered struct {
	inner   Driver
	layers  []layer
	addr    string
	latency *Latency
	close   func(context.Context) error
}

func (d *layered) run(ctx context.Context, c call, f func(context.Context) error) error {
	return d.through(ctx, c, 0, f)
}

func (d *layered) through(ctx context.Context, c call, i int, f func(context.Context) error) error {
	if i == len(d.layers) {
		return f(ctx)
	}
	return d.layers[i](ctx, c, func(ctx context.Context) error { return d.through(ctx, c, i+1, f) })
}

// Latency lets EnsureOn and EnsureOff learn and use what was learned.
func (d *layered) Latency() *Latency { return d.latency }

func (d *layered) State(ctx context.Context) (s State, err error) {
	err = d.run(ctx, callState, func(ctx context.Context) (err error) { s, err = d.inner.State(ctx); return err })
	return s, err
}

func (d *layered) On(ctx context.Context) error    { return d.run(ctx, callOn, d.inner.On) }
func (d *layered) Off(ctx context.Context) error   { return d.run(ctx, callOff, d.inner.Off) }
func (d *layered) Reset(ctx context.Context) error { return d.run(ctx, callReset, d.inner.Reset) }
func (d *layered) SoftOff(ctx context.Context) error {
	return d.run(ctx, callSoftOff, d.inner.SoftOff)
}

func (d *layered) RestartBMC(ctx context.Context) error {
	return d.run(ctx, callRestart, d.inner.RestartBMC)
}

func (d *layered) BootGet(ctx context.Context) (r Readback, err error) {
	err = d.run(ctx, callBootGet, func(ctx context.Context) (err error) { r, err = d.inner.BootGet(ctx); return err })
	return r, err
}

func (d *layered) BootSet(ctx context.Context, o BootOverride) (r Readback, err error) {
	err = d.run(ctx, callBootSet, func(ctx context.Context) (err error) { r, err = d.inner.BootSet(ctx, o); return err })
	return r, err
}

func (d *layered) Identify(ctx context.Context) (id Identity, err error) {
	err = d.run(ctx, callIdentify, func(ctx context.Context) (err error) { id, err = d.inner.Identify(ctx); return err })
	return id, err
}

func (d *layered) Close(ctx context.Context) error { return d.close(ctx) }

// Address names the BMC in errors.
func (d *layered) Address() string { return d.addr }
