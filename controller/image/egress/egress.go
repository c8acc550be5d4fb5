// Package egress shares out what a controller may send: byte rates for the
// site, for each subnet and for each machine, and fair turns below them.
//
//	site ── owner A ──┬── machine 1     whose turn it is: of the owners the one
//	      │           └── machine 2     that was given least, of its machines
//	      └── owner B ───── machine 3   the one that was given least
//
// So two owners get half each while both want more, however many machines each
// of them deploys; what one does not use, the other gets. A rate is a bucket
// that may be overdrawn by one turn and is then waited for: over any time of t
// seconds at most rate × t bytes leave, and a tenth of a second's worth and one
// turn more.
//
// Scheduler is pure: time is handed in and nothing blocks. Gate waits.
package egress

import (
	"math"
	"time"
)

// Limits are rates in bytes a second; 0 is none.
type Limits struct {
	Site    int64
	Subnet  int64 // of each subnet
	Machine int64 // of each machine
}

// None reports whether nothing is limited.
func (l Limits) None() bool { return l.Site <= 0 && l.Subnet <= 0 && l.Machine <= 0 }

// Flow is whose bytes they are. An empty Subnet or Machine has no limit of its
// own.
type Flow struct{ Owner, Subnet, Machine string }

// Turn is a number of bytes that waits to be sent.
type Turn struct {
	flow  Flow
	bytes int64
	ready chan struct{} // Gate's
}

// keepIdle is how many buckets and shares are kept without looking whether they
// are still needed.
const keepIdle = 1024

// Scheduler decides which turn comes next.
type Scheduler struct {
	limits   Limits
	site     *bucket
	subnets  map[string]*bucket
	machines map[string]*bucket
	owners   map[string]*owner
	given    int64 // what the owner served last had been given; newcomers begin there
	waiting  int
}

type owner struct {
	given   int64             // bytes, counted from where it became active
	last    int64             // the same of its machine that was served last
	waiting int               // turns
	queues  map[string]*queue // by machine
}

type queue struct {
	given int64
	turns []*Turn
}

// NewScheduler makes one with full buckets.
func NewScheduler(l Limits) *Scheduler {
	return &Scheduler{limits: l, site: newBucket(l.Site), subnets: map[string]*bucket{}, machines: map[string]*bucket{}, owners: map[string]*owner{}}
}

// Add queues bytes of a flow. Turns of one flow keep their order.
func (s *Scheduler) Add(f Flow, bytes int64) *Turn {
	o := s.owners[f.Owner]
	if o == nil {
		o = &owner{queues: map[string]*queue{}}
		s.owners[f.Owner] = o
	}
	if o.waiting == 0 {
		o.given = max(o.given, s.given) // nobody saves up turns by being idle
	}
	q := o.queues[f.Machine]
	if q == nil {
		q = &queue{}
		o.queues[f.Machine] = q
	}
	if len(q.turns) == 0 {
		q.given = max(q.given, o.last)
	}
	t := &Turn{flow: f, bytes: bytes}
	q.turns = append(q.turns, t)
	o.waiting++
	s.waiting++
	return t
}

// Drop takes back a turn that waits; one that was given is gone.
func (s *Scheduler) Drop(t *Turn) {
	o := s.owners[t.flow.Owner]
	if o == nil || o.queues[t.flow.Machine] == nil {
		return
	}
	q := o.queues[t.flow.Machine]
	for i, other := range q.turns {
		if other == t {
			q.turns = append(q.turns[:i], q.turns[i+1:]...)
			o.waiting--
			s.waiting--
			return
		}
	}
}

// Next gives all turns that may go at this time, in their order, and how long
// the first of the others has to wait; 0 when none waits.
func (s *Scheduler) Next(now time.Time) (turns []*Turn, wait time.Duration) {
	for s.waiting > 0 {
		o, q, after := s.choose(now)
		if q == nil {
			wait = after
			break
		}
		turns = append(turns, s.give(now, o, q))
	}
	s.tidy(now)
	return turns, wait
}

func (s *Scheduler) give(now time.Time, o *owner, q *queue) *Turn {
	t := q.turns[0]
	q.turns = q.turns[1:]
	o.waiting--
	s.waiting--
	s.given, o.last = o.given, q.given
	o.given += t.bytes
	q.given += t.bytes
	s.site.spend(now, t.bytes)
	s.bucket(s.subnets, t.flow.Subnet, s.limits.Subnet).spend(now, t.bytes)
	s.bucket(s.machines, t.flow.Machine, s.limits.Machine).spend(now, t.bytes)
	return t
}

// choose looks for the owner that was given least, among those with a machine
// that may send now; after is when to look again when there is none.
func (s *Scheduler) choose(now time.Time) (best *owner, turn *queue, after time.Duration) {
	after = math.MaxInt64
	if w := s.site.wait(now); w > 0 {
		return nil, nil, w
	}
	for _, o := range s.owners {
		if o.waiting == 0 || (best != nil && o.given >= best.given) {
			continue
		}
		q, w := s.machineOf(now, o)
		after = min(after, w)
		if q != nil {
			best, turn = o, q
		}
	}
	return best, turn, after
}

func (s *Scheduler) machineOf(now time.Time, o *owner) (best *queue, after time.Duration) {
	after = math.MaxInt64
	for _, q := range o.queues {
		if len(q.turns) == 0 || (best != nil && q.given >= best.given) {
			continue
		}
		f := q.turns[0].flow
		w := max(s.bucket(s.subnets, f.Subnet, s.limits.Subnet).wait(now), s.bucket(s.machines, f.Machine, s.limits.Machine).wait(now))
		if w > 0 {
			after = min(after, w)
			continue
		}
		best = q
	}
	return best, after
}

// bucket finds or makes one; without a limit or a name there is none.
func (s *Scheduler) bucket(of map[string]*bucket, name string, rate int64) *bucket {
	if rate <= 0 || name == "" {
		return nil
	}
	b := of[name]
	if b == nil {
		b = newBucket(rate)
		of[name] = b
	}
	return b
}

// tidy forgets who is idle, when there are many of them.
func (s *Scheduler) tidy(now time.Time) {
	for _, of := range []map[string]*bucket{s.subnets, s.machines} {
		if len(of) <= keepIdle+s.waiting {
			continue
		}
		for name, b := range of {
			if b.full(now) {
				delete(of, name)
			}
		}
	}
	for name, o := range s.owners {
		if o.waiting > 0 {
			if len(o.queues) > keepIdle+o.waiting {
				o.forgetIdle()
			}
			continue
		}
		// What is left of an idle owner is its lead over the others.
		if o.given <= s.given || s.waiting == 0 {
			delete(s.owners, name)
		}
	}
	if len(s.owners) == 0 {
		s.given = 0
	}
}

func (o *owner) forgetIdle() {
	for name, q := range o.queues {
		if len(q.turns) == 0 {
			delete(o.queues, name)
		}
	}
}
