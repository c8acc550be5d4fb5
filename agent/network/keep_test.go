package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeepOutlivesItsNIC: a driver that starts its NIC over takes it away for a
// while, and a warm agent must not be without an address ever after.
func TestKeepOutlivesItsNIC(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		lease := Lease{NIC: NIC{Name: "gone0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
			Address: netip.MustParsePrefix("10.0.0.2/24"), Obtained: began, Duration: time.Minute}
		err := Keep(ctx, lease, Options{}, nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) < time.Hour {
			t.Errorf("gave up after %v: got %v, want it to go on until its context ends", time.Since(began), err)
		}
	})
}
