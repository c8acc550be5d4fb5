package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	plan "github.com/ingot-metal/ingot/controller/relay"
	"github.com/ingot-metal/ingot/imaging/relay"
)

// proc is one process, as the one that measures sees it.
type proc struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *lines
	gone    chan struct{} // closed when it has ended
	urls    []string      // server
	total   chan int64    // server: bytes sent
	task    task
	url     string // where it serves its peers; after ready
	healthy bool
	ready   chan struct{}
	checked chan bool
	muted   atomic.Bool // cut off: what it says is not heard
	words   chan word   // the latest upstream
	verbose bool
}

func (p *proc) id() string { return p.task.ID }

// launch starts this program at a port of the network, in another role, gives it
// its task, and has hear called with each line until the process ends.
func (r *round) launch(p *proc, port int, role string, told any, hear func([]byte) error) error {
	p.cmd = r.bench.lan.in(port, r.bench.self, role)
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MASSBENCH_ROLE="+role)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start a %s: %w", role, err)
	}
	p.out, p.gone = newLines(p.in), make(chan struct{})
	go func() {
		defer close(p.gone)
		for lines := scanLines(out); lines.Scan(); {
			if err := hear(lines.Bytes()); err != nil {
				r.fail(fmt.Errorf("%s says %.80q: %w", role, lines.Bytes(), err))
			}
		}
		_ = p.cmd.Wait() // it was killed, or has said what it had to say
	}()
	return p.out.write(told)
}

func (r *round) startServer(ctx context.Context) error {
	b, s := r.bench, r.setting
	port := 0
	if b.lan != nil {
		port = len(b.lan.ports) - 1
	}
	uplink := b.link * s.uplink
	if err := b.lan.shape(ctx, port, uplink); err != nil {
		return err
	}
	told := serving{Store: b.dir + "/images", Host: b.lan.host(port)}
	if b.lan == nil {
		told.Link = uplink
	}
	for _, p := range b.images[s.small] {
		told.Paths = append(told.Paths, image.FramesPath(p.digest))
	}
	r.server = &proc{total: make(chan int64, 1), ready: make(chan struct{})}
	err := r.launch(r.server, port, "server", told, func(line []byte) error {
		var at served
		if err := json.Unmarshal(line, &at); err != nil {
			return err
		}
		if at.URLs == nil {
			r.server.total <- at.Bytes
			return nil
		}
		r.server.urls = at.URLs
		close(r.server.ready)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-r.server.ready:
		return nil
	case <-r.server.gone:
		return errors.New("the server ended before it began")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bytesSent ends the server and gives what it sent.
func (p *proc) bytesSent(ctx context.Context) (int64, error) {
	if err := p.in.Close(); err != nil {
		return 0, err
	}
	select {
	case n := <-p.total:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// startMachine starts one, and is between it and the board what an agent's stream
// is between an agent and the controller.
func (r *round) startMachine(i int, t task, picture picture, healthy bool) (*proc, error) {
	p := &proc{task: t, healthy: healthy, ready: make(chan struct{}), checked: make(chan bool, 1), words: make(chan word, 1), verbose: r.bench.verbose}
	order := int64(i + 1)
	if healthy {
		r.mu.Lock()
		r.left++
		r.mu.Unlock()
	}
	if r.setting.design == byRelay {
		key, ok := r.board.Enter(plan.Seat{
			Machine: machine.ID(t.ID), Order: order, Image: picture.digest.Hex(), Place: plan.Place{LinkBytesPerSecond: uint64(r.bench.link)},
			Deliver: func(u plan.Upstream) { p.upstream(string(u.Peer), u.URLs) },
		})
		if !ok {
			return nil, errors.New("there is no seat at the board")
		}
		p.task.Key = key
	} else if t.Relay {
		p.task.Key = r.chainKey()
	}
	var flushed time.Duration
	err := r.launch(p, i, "machine", p.task, func(line []byte) error {
		var said tale
		if err := json.Unmarshal(line, &said); err != nil {
			return err
		}
		switch {
		case p.muted.Load():
		case said.Ready:
			p.url = said.URL
			close(p.ready)
		case said.State != nil && r.setting.design == byRelay:
			if said.State.FailedUpstream != "" {
				p.say("was failed by %s: %s", said.State.FailedUpstream, said.State.Failure)
			}
			p.say("state %+v", *said.State)
			r.board.Report(machine.ID(t.ID), order, stateOf(said.State, p.url))
		case said.Flushed:
			flushed = time.Since(r.begun)
		case said.Ended && healthy:
			r.ended(p, flushed, said.Error)
		case said.Checked || said == (tale{}):
			p.checked <- said.Checked
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	go func() { // ends with the process
		for {
			select {
			case w := <-p.words:
				p.tell(w)
			case <-p.gone:
				r.board.Away(machine.ID(t.ID))
				return
			}
		}
	}()
	return p, nil
}

// chainKey is the key of the one relay that has no board.
func (r *round) chainKey() []byte {
	if len(r.crowd) > 0 {
		return r.crowd[0].task.Key
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

func stateOf(s *relay.State, url string) plan.State {
	return plan.State{
		URLs: []string{url}, RingBytes: s.RingBytes, Position: s.Position, BytesPerSecond: s.BytesPerSecond, ReceivedBytes: s.FromFloor + s.FromPeers,
		Waiting: s.Waiting, Upstream: machine.ID(s.Upstream), Failed: machine.ID(s.FailedUpstream), Failure: string(s.Failure), Done: s.Done,
	}
}

// tell writes one word; to who is gone it is lost.
func (p *proc) tell(w word) { _ = p.out.write(w) }

// upstream leaves word where to read from; the latest counts.
func (p *proc) upstream(id string, urls []string) {
	if p.muted.Load() {
		return
	}
	w := word{Upstream: &relay.Peer{MachineID: id, URLs: urls}}
	p.say("reads from %q", id)
	for {
		select {
		case p.words <- w:
			return
		default:
		}
		select {
		case <-p.words:
		default:
		}
	}
}

// say tells a person what happens, where that was asked for.
func (p *proc) say(format string, args ...any) {
	if p.verbose {
		fmt.Fprintf(os.Stderr, "%s %s %s\n", time.Now().Format("05.000"), p.id(), fmt.Sprintf(format, args...))
	}
}

// mute has nobody hear the process any more.
func (p *proc) mute() { p.muted.Store(true) }

func (p *proc) kill() { _ = p.cmd.Process.Kill() } // it may have ended
