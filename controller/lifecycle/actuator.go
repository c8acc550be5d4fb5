package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// claimFor is how long one controller may work on a BMC order; workFor ends
	// before it, so that no call of ours runs when another may begin.
	claimFor = 4 * time.Minute
	workFor  = claimFor - 20*time.Second
	// storeAgain is the pause between two tries while the database is away.
	storeAgain = time.Second
	// bmcsAtOnce bounds the BMCs spoken to in parallel.
	bmcsAtOnce = 16
)

// BMCOrders is what the actuator needs of the store.
type BMCOrders interface {
	// OrderClaimForBMC takes the oldest pending order for a BMC, or one whose
	// claim ran out; nil when there is none. Superseded orders are never given.
	OrderClaimForBMC(ctx context.Context, holder string, claimFor time.Duration) (*machine.Order, error)
	// OrderFinish saves what came of it and wakes the machine. Finishing twice
	// changes nothing.
	OrderFinish(ctx context.Context, order machine.Order) error
	// BMCAccess gives address and credentials.
	BMCAccess(ctx context.Context, id machine.ID) (power.Access, error)
	// BMCSeen saves what a BMC told of itself: its model, its certificate when
	// none is pinned yet, and its last error, empty for none.
	BMCSeen(ctx context.Context, id machine.ID, bmc machine.BMC) error
}

// Open makes a driver for a BMC.
type Open func(ctx context.Context, a power.Access) (power.Driver, error)

// Actuator carries out the orders for BMCs.
type Actuator struct {
	orders BMCOrders
	open   Open
	holder string
	wake   <-chan struct{}
	log    *slog.Logger
}

// NewActuator makes an actuator that claims orders as holder.
func NewActuator(orders BMCOrders, open Open, holder string, wake <-chan struct{}, log *slog.Logger) *Actuator {
	return &Actuator{orders: orders, open: open, holder: holder, wake: wake, log: log}
}

// Run carries out orders until ctx ends; it then waits for those under way,
// whose calls end with ctx.
func (a *Actuator) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	places := make(chan struct{}, bmcsAtOnce)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for a.next(ctx, places, &running) {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-ticker.C:
		}
	}
}

// next starts the next order, if there are one and a free place.
func (a *Actuator) next(ctx context.Context, places chan struct{}, running *sync.WaitGroup) bool {
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	order, err := a.orders.OrderClaimForBMC(ctx, a.holder, claimFor)
	if err != nil || order == nil {
		<-places
		if err != nil && ctx.Err() == nil {
			a.log.Warn("claim an order for a BMC", "err", err)
		}
		return false
	}
	running.Go(func() {
		defer func() { <-places }()
		a.carryOut(ctx, *order)
	})
	return true
}

func (a *Actuator) carryOut(ctx context.Context, o machine.Order) {
	log := a.log.With("machine_id", o.MachineID, "order_id", o.ID, "task", o.Step, "attempt", o.Attempt)
	begun := time.Now()
	work, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	access, err := a.access(work, o.MachineID)
	if ctx.Err() != nil || fault.Is(err, fault.Unavailable) {
		return // the claim runs out and another carries it out
	}
	var result machine.Result
	if err == nil {
		result, err = a.act(work, access, o)
	}
	if ctx.Err() != nil {
		return // as above
	}
	o.Result, o.State = result, machine.OrderSucceeded
	if err != nil {
		o.State, o.Detail = machine.OrderFailed, err.Error()
		o.Reason = reasonOf(err)
		log.Warn("order for a BMC", "err", err)
	}
	// While the database is away the result waits, as long as the claim holds.
	work, cancel = context.WithTimeout(ctx, claimFor-time.Since(begun))
	defer cancel()
	if err := untilAnswered(work, func() error { return a.orders.OrderFinish(work, o) }); err != nil {
		log.Warn("save what came of an order for a BMC", "err", err)
	}
}

// untilAnswered repeats what failed because the database is away.
func untilAnswered(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !fault.Is(err, fault.Unavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(storeAgain):
		}
	}
}

func (a *Actuator) access(ctx context.Context, id machine.ID) (access power.Access, err error) {
	err = untilAnswered(ctx, func() error {
		access, err = a.orders.BMCAccess(ctx, id)
		return err
	})
	return access, err
}

// act speaks to the BMC and remembers what it showed.
func (a *Actuator) act(ctx context.Context, access power.Access, o machine.Order) (machine.Result, error) {
	if o.Job.BMC == nil {
		return machine.Result{}, errors.New("order for a BMC without a job")
	}
	seen := machine.BMC{URL: access.URL}
	var result machine.Result
	driver, err := a.open(ctx, access)
	if err == nil {
		defer a.closeDriver(driver, o.MachineID)
		result, err = do(ctx, driver, *o.Job.BMC)
	}
	if err != nil {
		seen.LastError = err.Error()
	} else if access.CertificateSHA256 == "" {
		// First use: its certificate is pinned.
		if who, err := driver.Identify(ctx); err == nil {
			seen.Vendor, seen.Model, seen.Firmware, seen.CertificateSHA256 = who.Vendor, who.Model, who.Firmware, who.CertificateSHA256
		}
	}
	if err := a.orders.BMCSeen(ctx, o.MachineID, seen); err != nil {
		a.log.Warn("save what a BMC told of itself", "machine_id", o.MachineID, "err", err)
	}
	return result, err
}

// do does one BMC job: check, do, verify are in the power operations.
func do(ctx context.Context, driver power.Driver, job machine.BMCJob) (result machine.Result, err error) {
	switch job.Action {
	case machine.BMCOn:
		_, err = power.EnsureOn(ctx, driver, power.Waits{})
	case machine.BMCOff:
		_, err = power.EnsureOff(ctx, driver, power.Waits{})
	case machine.BMCSoftOff:
		_, err = power.EnsureOff(ctx, driver, power.Waits{Soft: time.Minute})
	case machine.BMCBootAgentOnce, machine.BMCBootDisk:
		result.Evidence, err = setBoot(ctx, driver, job)
	case machine.BMCRestart:
		var out power.Outcome
		if out, err = power.RestartBMC(ctx, driver, power.Waits{}); err == nil {
			result.Evidence = fmt.Sprintf("it answers again after %s", out.Took.Round(time.Second))
		}
	case machine.BMCQuery:
	default:
		err = fmt.Errorf("job for a BMC %q is not known to this controller", job.Action)
	}
	if err != nil {
		return result, err
	}
	state, err := driver.State(ctx)
	result.Power = machine.PowerState(state.String())
	return result, err
}

// closeDriver ends the session. That it could not be ended does not undo what
// was done, so it is told and no more.
func (a *Actuator) closeDriver(d power.Driver, id machine.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		a.log.Warn("end the session at a BMC", "machine_id", id, "err", err)
	}
}

func setBoot(ctx context.Context, d power.Driver, job machine.BMCJob) (string, error) {
	override := power.BootOverride{Device: power.DevicePXE, Once: true, Mode: power.Mode(job.BootMode)}
	if job.HTTPBoot {
		override.Device = power.DeviceHTTP
	}
	if job.Action == machine.BMCBootDisk {
		override.Device, override.Once = power.DeviceDisk, false
	}
	read, err := d.BootSet(ctx, override)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, read back as %s", override, read.Override), nil
}

// reasons name the causes that drivers tell. An error can hold two: a BMC that
// is left alone for a while is busy because of what came before, so that is
// named first and ErrBusy stands last.
var reasons = []struct {
	kind   power.Kind
	reason machine.Reason
}{
	{power.ErrCredentials, machine.ReasonBMCCredentials},
	{power.ErrCertificateChanged, machine.ReasonBMCCertificate},
	{power.ErrUnsupported, machine.ReasonBMCUnsupported},
	{power.ErrIgnored, machine.ReasonBMCIgnored},
	{power.ErrProtocol, machine.ReasonBMCProtocol},
	{power.ErrUnreachable, machine.ReasonBMCUnreachable},
	{power.ErrTimeout, machine.ReasonBMCUnreachable},
	{power.ErrBusy, machine.ReasonBMCUnreachable},
}

// reasonOf names the cause of a driver's error.
func reasonOf(err error) machine.Reason {
	for _, r := range reasons {
		if errors.Is(err, r.kind) {
			return r.reason
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return machine.ReasonBMCUnreachable
	}
	return machine.ReasonUnknown
}
