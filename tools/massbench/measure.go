package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	plan "github.com/ingot-metal/ingot/controller/relay"
)

const (
	// states is how often machines tell how they stand: what agents do.
	states = 500 * time.Millisecond
	// runBytes is the agent's 2 MiB for frames of 1 MiB, for ours.
	runBytes = 128 << 10
	// patience bounds one row, and readyWithin the start of its processes.
	patience    = 5 * time.Minute
	readyWithin = time.Minute
)

// round is one row while it is measured.
type round struct {
	bench   *bench
	setting setting
	board   *plan.Board
	server  *proc
	crowd   []*proc
	begun   time.Time

	mu      sync.Mutex // guards the fields below
	left    int        // healthy machines that have not ended
	allDone chan struct{}
	last    time.Duration
	failed  error
}

// measure runs one row, from fresh processes to none.
func (b *bench) measure(ctx context.Context, s setting) (_ *row, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := &round{bench: b, setting: s, board: plan.NewBoard(plan.Rules{}), allDone: make(chan struct{})}
	defer func() { err = errors.Join(err, r.clear()) }()
	var planning sync.WaitGroup
	defer planning.Wait()
	defer cancel()
	planning.Go(func() { _ = r.board.Run(ctx) })
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	stat := readStat()
	r.begun = time.Now()
	for i, p := range r.crowd {
		p.tell(word{Go: true})
		if s.design == byChain && i > 0 {
			p.upstream(r.crowd[i-1].id(), []string{r.crowd[i-1].url})
		}
	}
	planning.Go(func() { r.harm(ctx) })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("not done after %s: %w", time.Since(r.begun).Round(time.Second), ctx.Err())
	case <-r.allDone:
	}
	wall, busy := time.Since(r.begun), readStat().since(stat)
	ours := r.cpu()
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	peak := r.server.peak()
	sent, err := r.server.bytesSent(ctx)
	if err != nil {
		return nil, err
	}
	images := int64(0)
	for i := range r.images() {
		images += b.images[s.small][i].packed
	}
	return &row{
		Design: s.design, N: s.n, Uplink: s.uplink, Slow: s.slow, Killed: s.killed, Cut: s.cut, Images: r.images(), ImageMiB: float64(b.images[s.small][0].packed) / (1 << 20),
		LastSeconds: r.last.Seconds(), EgressImages: float64(sent) / float64(images), ServerPeakMiB: peak,
		CPUShare: ours.Seconds() / wall.Seconds() / cores(), Busy: busy, Reforms: r.board.Count().Reforms, Shaped: b.shaped(),
	}, nil
}

func (b *bench) shaped() string {
	if b.lan == nil {
		return "process"
	}
	return "tc"
}

func (r *round) images() int { return max(r.setting.images, 1) }

// victim tells what befalls machine i: the slow ones are near the head of a fixed
// chain, those that die are spread over it.
func (s setting) victim(i int) (slow, dies bool) {
	for k := range s.slow {
		if i == 2+7*k {
			return true, false
		}
	}
	first := min(4, s.n/2)
	for k := range s.killed {
		if i == first+k*(s.n-first)/s.killed {
			return false, true
		}
	}
	return false, false
}

// harm kills or cuts off those that are to die, between a quarter and two thirds
// of the way of one machine.
func (r *round) harm(ctx context.Context) {
	dying := 0
	for i, p := range r.crowd {
		if _, dies := r.setting.victim(i); !dies {
			continue
		}
		one := float64(r.bench.images[r.setting.small][0].packed) / r.bench.link
		at := time.Duration((0.25 + 0.4*float64(dying)/float64(r.setting.killed)) * one * float64(time.Second))
		dying++
		select {
		case <-ctx.Done():
			return
		case <-r.allDone:
			return
		case <-time.After(at - time.Since(r.begun)):
		}
		if !r.setting.cut || r.bench.lan == nil {
			p.kill()
			continue
		}
		p.mute()
		if err := r.bench.lan.pull(ctx, i, true); err != nil {
			r.fail(err)
		}
	}
}

// start makes the processes and waits until all are ready.
func (r *round) start(ctx context.Context) error {
	b, s := r.bench, r.setting
	if err := r.startServer(ctx); err != nil {
		return err
	}
	for i := range s.n {
		slow, dies := s.victim(i)
		rate := b.link
		if slow {
			rate /= 8
		}
		if err := b.lan.shape(ctx, i, rate); err != nil {
			return err
		}
		which := i * r.images() / s.n
		picture := b.images[s.small][which]
		t := task{
			ID: fmt.Sprintf("m%d", i), Manifest: picture.manifest, URL: r.server.urls[which], Target: filepath.Join(b.dir, fmt.Sprintf("disk%d", i)),
			Host: b.lan.host(i), Ring: picture.packed / 2, Run: runBytes, Relay: s.design != byHTTP, Tells: states,
		}
		if b.lan == nil {
			t.Link = rate
		}
		p, err := r.startMachine(i, t, picture, !slow && !dies)
		if err != nil {
			return err
		}
		r.crowd = append(r.crowd, p)
	}
	ready := time.After(readyWithin)
	for _, p := range r.crowd {
		select {
		case <-p.ready:
		case <-p.gone:
			return fmt.Errorf("machine %s ended before it began", p.id())
		case <-ready:
			return errors.New("the machines do not get ready")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// check has every healthy machine compare its disk with the manifest, two at a
// time.
func (r *round) check(ctx context.Context) error {
	if r.failed != nil {
		return r.failed
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, p := range r.crowd {
		if p.healthy {
			group.Go(func() error { return p.check(ctx) })
		}
	}
	return group.Wait()
}

func (p *proc) check(ctx context.Context) error {
	p.tell(word{Finish: true})
	select { // it says what it found, and ends
	case <-p.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case good := <-p.checked:
		if !good {
			return fmt.Errorf("machine %s has other content than the image", p.id())
		}
		return nil
	default:
		return fmt.Errorf("machine %s ended before it was checked", p.id())
	}
}

// ended takes a healthy machine's end.
func (r *round) ended(p *proc, flushed time.Duration, failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, flushed)
	if failure != "" {
		r.failed = errors.Join(r.failed, fmt.Errorf("machine %s: %s", p.id(), failure))
	}
	if r.left--; r.left == 0 {
		close(r.allDone)
	}
}

func (r *round) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = errors.Join(r.failed, err)
}

// clear ends all processes, and gives links and disks back.
func (r *round) clear() error {
	var err error
	for i, p := range r.crowd {
		p.kill()
		<-p.gone
		_ = os.Remove(p.task.Target) // it may never have been made
		if p.muted.Load() {
			err = errors.Join(err, r.bench.lan.pull(context.Background(), i, false))
		}
	}
	if r.server != nil {
		r.server.kill()
		<-r.server.gone
	}
	return err
}
