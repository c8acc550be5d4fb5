package power_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

// restarting is a BMC that is silent for a while after its restart.
type restarting struct {
	power.Driver
	taken  error
	silent time.Duration
	back   time.Time
}

func (r *restarting) RestartBMC(context.Context) error {
	r.back = time.Now().Add(r.silent)
	return r.taken
}

func (r *restarting) State(context.Context) (power.State, error) {
	if time.Now().Before(r.back) {
		return power.StateUnknown, &power.Error{Kind: power.ErrUnreachable}
	}
	return power.StateOn, nil
}

func TestRestartBMC(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		bmc  restarting
		want error
	}{
		"it answers again":             {restarting{silent: 90 * time.Second}, nil},
		"it went before it answered":   {restarting{taken: &power.Error{Kind: power.ErrTimeout}, silent: time.Minute}, nil},
		"it never comes back":          {restarting{silent: time.Hour}, power.ErrUnreachable},
		"it knows no such order":       {restarting{taken: &power.Error{Kind: power.ErrUnsupported}}, power.ErrUnsupported},
		"the credentials do not serve": {restarting{taken: &power.Error{Kind: power.ErrCredentials}}, power.ErrCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				_, err := power.RestartBMC(t.Context(), &tt.bmc, power.Waits{})
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took := time.Since(begun); took > 4*time.Minute {
					t.Errorf("took %s, longer than an order's claim", took)
				}
			})
		})
	}
}
