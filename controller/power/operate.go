package power

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Waits bound the composed operations; zero values are the defaults named.
type Waits struct {
	// Limit for power to come, or to go after a hard off; 60 s. It is
	// stretched to three times what this BMC was seen to take, at most MaxWait.
	Limit time.Duration
	// Soft is how long the operating system gets to shut down before the
	// power is cut. Zero cuts it at once.
	Soft time.Duration
	// Settle is the pause in a Cycle between power gone and power on; 1 s.
	// Take Identity.Flags.Settle where the quirk table has one.
	Settle time.Duration
}

// MaxWait is the longest that one step of an operation waits for power.
const MaxWait = 5 * time.Minute

// Outcome says what an operation did.
type Outcome struct {
	Changed bool          // an order was given; false if all was so already
	Forced  bool          // the soft shutdown did not help, the power was cut
	Took    time.Duration // from the first order until it was seen done
}

// EnsureOn returns when the BMC reports power on, ordering it once if needed.
func EnsureOn(ctx context.Context, d Driver, w Waits) (Outcome, error) {
	s, err := d.State(ctx)
	if err != nil || s == StateOn {
		return Outcome{}, err
	}
	begun := time.Now()
	if err := d.On(ctx); err != nil {
		return Outcome{Changed: true}, err
	}
	err = await(ctx, d, StateOn, effectOn, w.Limit)
	return Outcome{Changed: true, Took: time.Since(begun)}, err
}

// EnsureOff returns when the BMC reports power off: softly first if w.Soft is
// set, and then, or if the BMC knows no soft way, by cutting the power.
func EnsureOff(ctx context.Context, d Driver, w Waits) (Outcome, error) {
	s, err := d.State(ctx)
	if err != nil || s == StateOff {
		return Outcome{}, err
	}
	begun := time.Now()
	out := Outcome{Changed: true}
	if w.Soft > 0 {
		done, err := softOff(ctx, d, w.Soft)
		if done || err != nil {
			out.Took = time.Since(begun)
			return out, err
		}
		out.Forced = true
	}
	if err := d.Off(ctx); err != nil {
		return out, err
	}
	err = await(ctx, d, StateOff, effectOff, w.Limit)
	out.Took = time.Since(begun)
	return out, err
}

// softOff reports whether the power went; a refusal or silence of the system
// is no error, as the power can still be cut.
func softOff(ctx context.Context, d Driver, limit time.Duration) (bool, error) {
	if err := d.SoftOff(ctx); err != nil {
		if ctx.Err() != nil || !errors.Is(err, ErrUnsupported) && !Temporary(err) {
			return false, err
		}
		return false, nil
	}
	// What is learned here would be the system's time, not the BMC's.
	err := poll(ctx, d, StateOff, limit, 0)
	if err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, err
	}
	return false, nil
}

// Cycle takes the power away, sees that it is gone, gives it back and sees
// that it has come. It never resets: a reset cannot be verified.
func Cycle(ctx context.Context, d Driver, w Waits) (Outcome, error) {
	begun := time.Now()
	out, err := EnsureOff(ctx, d, w)
	if err != nil {
		return out, fmt.Errorf("power cycle, off: %w", err)
	}
	settle := w.Settle
	if settle == 0 {
		settle = time.Second
	}
	if out.Changed {
		if err := sleep(ctx, settle); err != nil {
			return out, &Error{Kind: ErrTimeout, BMC: address(d), Asked: "power cycle",
				Got: "power is off and was not ordered on again: the caller's time is over", Do: "power it on", Err: err}
		}
	}
	on, err := EnsureOn(ctx, d, w)
	out.Changed = out.Changed || on.Changed
	out.Took = time.Since(begun)
	if err != nil {
		return out, fmt.Errorf("power cycle, on: %w", err)
	}
	return out, nil
}

// restartSettle is how long a BMC that took the order may go on answering before
// it really restarts.
const restartSettle = 15 * time.Second

// RestartBMC restarts the BMC and returns when it tells the power state again. A
// BMC that was gone before it could answer is taken to have begun. Waits.Settle
// is the pause before it is asked (15 s), Waits.Limit how long it may be silent
// after that (3 minutes, at most MaxWait).
func RestartBMC(ctx context.Context, d Driver, w Waits) (Outcome, error) {
	begun := time.Now()
	if err := d.RestartBMC(ctx); err != nil && !errors.Is(err, ErrTimeout) {
		return Outcome{}, err
	}
	if w.Settle == 0 {
		w.Settle = restartSettle
	}
	if w.Limit == 0 {
		w.Limit = 3 * time.Minute
	}
	out := Outcome{Changed: true}
	end := begun.Add(min(w.Limit, MaxWait) + w.Settle)
	pause := w.Settle
	for {
		if err := sleep(ctx, pause); err != nil {
			return out, &Error{Kind: ErrTimeout, BMC: address(d), Asked: "wait for the BMC to restart",
				Got: "the caller's time is over", Do: "look whether it answers", Err: err}
		}
		_, err := d.State(ctx)
		out.Took = time.Since(begun)
		if err == nil || !Temporary(err) || !time.Now().Before(end) {
			return out, err
		}
		pause = min(max(w.Settle/4, 200*time.Millisecond), 5*time.Second)
	}
}

// await polls with a limit from what was learned, and learns.
func await(ctx context.Context, d Driver, want State, effect string, limit time.Duration) error {
	if limit == 0 {
		limit = time.Minute
	}
	var usual time.Duration
	l := latencyOf(d)
	if l != nil {
		usual = l.Of(effect)
	}
	limit = min(max(limit, 3*usual), MaxWait)
	begun := time.Now()
	err := poll(ctx, d, want, limit, usual)
	if err == nil && l != nil {
		l.Learn(effect, time.Since(begun))
	}
	return err
}

// poll asks for the state until it is want: first after a quarter of the usual
// time, then less and less often. A BMC that does not answer meanwhile is
// asked again: many are silent just when they switch.
func poll(ctx context.Context, d Driver, want State, limit, usual time.Duration) error {
	const first, longest = 200 * time.Millisecond, 3 * time.Second
	end := time.Now().Add(limit)
	pause := min(max(usual/4, first), longest)
	var s State
	var silent error
	for {
		var err error
		s, err = d.State(ctx)
		switch {
		case err == nil && s == want:
			return nil
		case err != nil && !Temporary(err):
			return err
		}
		silent = err
		if !time.Now().Before(end) {
			break
		}
		if err := sleep(ctx, min(pause, max(time.Until(end), first))); err != nil {
			return &Error{Kind: ErrTimeout, BMC: address(d), Asked: "wait for power " + want.String(),
				Got: "power is " + s.String() + ", the caller's time is over", Err: err}
		}
		pause = min(pause*3/2, longest)
	}
	if silent != nil {
		return silent
	}
	return &Error{Kind: ErrIgnored, BMC: address(d), Asked: "power " + want.String(),
		Got: fmt.Sprintf("accepted, but power is still %s after %s", s, limit),
		Do:  "look at the machine's front panel and the BMC's event log"}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func latencyOf(d Driver) *Latency {
	if l, ok := d.(interface{ Latency() *Latency }); ok {
		return l.Latency()
	}
	return nil
}

func address(d Driver) string {
	if a, ok := d.(interface{ Address() string }); ok {
		return a.Address()
	}
	return "?"
}
