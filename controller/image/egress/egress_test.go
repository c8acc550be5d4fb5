package egress

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

const chunk = 256 << 10

// sender always wants more, from its start on, until it has sent all.
type sender struct {
	flow  Flow
	start time.Duration
	total int64 // 0: without end
	sent  int64
	busy  bool
}

// run plays senders against the scheduler in simulated time.
func run(t *testing.T, l Limits, length time.Duration, senders []*sender) {
	t.Helper()
	s := NewScheduler(l)
	zero := time.Unix(1_000_000, 0)
	owner := map[*Turn]*sender{}
	for now := time.Duration(0); now < length; {
		for _, x := range senders {
			if now >= x.start && !x.busy && (x.total == 0 || x.sent < x.total) {
				x.busy = true
				owner[s.Add(x.flow, chunk)] = x
			}
		}
		turns, wait := s.Next(zero.Add(now))
		for _, turn := range turns {
			x := owner[turn]
			delete(owner, turn)
			x.sent += chunk
			x.busy = false
		}
		if len(turns) == 0 {
			if wait <= 0 {
				wait = time.Millisecond
			}
			now += min(wait, 10*time.Millisecond)
		}
	}
}

func want(t *testing.T, name string, got, want, slack int64) {
	t.Helper()
	if got < want-slack || got > want+slack {
		t.Errorf("%s sent %d bytes, want %d within %d", name, got, want, slack)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	const rate, seconds = 100 << 20, 10
	one := func(owner, subnet, machine string) *sender {
		return &sender{flow: Flow{owner, subnet, machine}}
	}
	const slack = rate/10 + 2*chunk
	t.Run("owners share the site, however many machines they have", func(t *testing.T) {
		t.Parallel()
		a := one("a", "n", "a1")
		list := []*sender{a}
		for i := range 9 {
			list = append(list, one("b", "n", fmt.Sprint("b", i)))
		}
		run(t, Limits{Site: rate}, seconds*time.Second, list)
		var b int64
		for _, x := range list[1:] {
			b += x.sent
			want(t, x.flow.Machine, x.sent, rate*seconds/2/9, slack/9+2*chunk)
		}
		want(t, "a", a.sent, rate*seconds/2, slack)
		want(t, "b", b, rate*seconds/2, slack)
	})
	t.Run("who comes late gets its share from then on and no more", func(t *testing.T) {
		t.Parallel()
		a, b := one("a", "n", "a"), one("b", "n", "b")
		b.start = 5 * time.Second
		run(t, Limits{Site: rate}, seconds*time.Second, []*sender{a, b})
		want(t, "a", a.sent, rate*5+rate*5/2, slack)
		want(t, "b", b.sent, rate*5/2, slack)
	})
	t.Run("what one leaves the other gets", func(t *testing.T) {
		t.Parallel()
		a, b := one("a", "n", "a"), one("b", "n", "b")
		a.total = rate
		run(t, Limits{Site: rate}, seconds*time.Second, []*sender{a, b})
		want(t, "a", a.sent, rate, chunk)
		want(t, "b", b.sent, rate*(seconds-1), slack)
	})
	t.Run("a limited machine does not hold up others", func(t *testing.T) {
		t.Parallel()
		a, b, c := one("a", "n", "a"), one("a", "n", "b"), one("b", "m", "c")
		run(t, Limits{Site: rate, Machine: rate / 10}, seconds*time.Second, []*sender{a, b, c})
		for _, x := range []*sender{a, b, c} {
			want(t, x.flow.Machine, x.sent, rate/10*seconds, rate/100+2*chunk)
		}
	})
	t.Run("who has no name has no limit of its own", func(t *testing.T) {
		t.Parallel()
		a := one("a", "", "")
		run(t, Limits{Site: rate, Subnet: rate / 10, Machine: rate / 10}, seconds*time.Second, []*sender{a})
		want(t, "a", a.sent, rate*seconds, slack)
	})
	t.Run("subnets have a limit each", func(t *testing.T) {
		t.Parallel()
		a, b, c := one("a", "n", "a"), one("b", "n", "b"), one("c", "m", "c")
		run(t, Limits{Site: rate, Subnet: rate / 4}, seconds*time.Second, []*sender{a, b, c})
		want(t, "a", a.sent, rate/8*seconds, slack)
		want(t, "b", b.sent, rate/8*seconds, slack)
		want(t, "c", c.sent, rate/4*seconds, slack)
	})
	t.Run("without a limit all goes at once", func(t *testing.T) {
		t.Parallel()
		s := NewScheduler(Limits{})
		for i := range 100 {
			s.Add(Flow{Machine: fmt.Sprint(i)}, 1<<30)
		}
		if turns, wait := s.Next(time.Now()); len(turns) != 100 || wait != 0 {
			t.Errorf("%d turns, wait %s", len(turns), wait)
		}
	})
}

// Who was here once costs no memory for ever.
func TestIdleOnesAreForgotten(t *testing.T) {
	t.Parallel()
	s := NewScheduler(Limits{Site: 1 << 40, Subnet: 1 << 40, Machine: 1 << 40})
	now := time.Unix(1_000_000, 0)
	for i := range 20_000 {
		now = now.Add(time.Millisecond)
		s.Add(Flow{fmt.Sprint("o", i), fmt.Sprint("n", i), fmt.Sprint("m", i)}, 1000)
		s.Next(now)
	}
	if len(s.owners) > keepIdle || len(s.machines) > keepIdle+1 || len(s.subnets) > keepIdle+1 {
		t.Errorf("%d owners, %d machines, %d subnets are kept", len(s.owners), len(s.machines), len(s.subnets))
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	s := NewScheduler(Limits{Site: 1000})
	now := time.Unix(1_000_000, 0)
	first, second, third := s.Add(Flow{Machine: "a"}, 1000), s.Add(Flow{Machine: "a"}, 1000), s.Add(Flow{Machine: "a"}, 1000)
	s.Drop(second)
	s.Drop(second)
	turns, wait := s.Next(now)
	if len(turns) != 1 || turns[0] != first || wait < 890*time.Millisecond || wait > 900*time.Millisecond {
		t.Fatalf("%d turns, wait %s", len(turns), wait)
	}
	if turns, _ := s.Next(now.Add(wait)); len(turns) != 1 || turns[0] != third {
		t.Errorf("after the wait: %d turns", len(turns))
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(Limits{Site: 1000})
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		for range 5 {
			if err := g.Wait(ctx, Flow{Machine: "a"}, 1000); err != nil {
				t.Fatal(err)
			}
		}
		// Four whole seconds less the tenth that the bucket held.
		if got := time.Since(start); got < 3890*time.Millisecond || got > 3910*time.Millisecond {
			t.Errorf("five turns took %s", got)
		}
		cancel()
		if err := g.Wait(ctx, Flow{Machine: "a"}, 1000); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if g.plan.waiting != 0 {
			t.Errorf("%d turns are left", g.plan.waiting)
		}
	})
	var none *Gate
	if g := NewGate(Limits{}); g != nil || none.Wait(t.Context(), Flow{}, 1) != nil {
		t.Error("without limits there is a gate")
	}
}
