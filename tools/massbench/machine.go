package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/relay"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// member is what a machine's process holds.
type member struct {
	task task
	m    *manifest.Manifest
	disk *writer.Device
	link *link
	node *relay.Node // nil: none
	from writer.Source
	out  *lines
	word chan struct{} // closed with the first upstream
}

// machineMain is a machine's process. It ends when it is told to, or its input
// ends.
func machineMain(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := scanLines(in)
	m := &member{out: newLines(out), word: make(chan struct{})}
	if !lines.Scan() {
		return errors.New("machine: no task")
	}
	if err := json.Unmarshal(lines.Bytes(), &m.task); err != nil {
		return err
	}
	if err := m.open(); err != nil {
		return fmt.Errorf("machine %s: %w", m.task.ID, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	if err := m.serve(&running); err != nil {
		return err
	}
	var first sync.Once
	for lines.Scan() {
		var w word
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return err
		}
		switch {
		case w.Go:
			running.Go(func() { m.write(ctx) })
			running.Go(func() { m.tell(ctx) })
		case w.Upstream != nil && m.node != nil:
			m.node.SetUpstream(*w.Upstream)
			first.Do(func() { close(m.word) })
		case w.Finish:
			return m.finish()
		}
	}
	return m.close()
}

// open makes everything but a listener.
func (m *member) open() error {
	data, err := os.ReadFile(m.task.Manifest)
	if err != nil {
		return err
	}
	if m.m, err = manifest.Parse(data); err != nil {
		return err
	}
	f, err := os.Create(m.task.Target)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(m.m.SizeBytes)), f.Close()); err != nil {
		return err
	}
	if m.disk, err = writer.Open(m.task.Target, writer.OpenOptions{}); err != nil {
		return err
	}
	m.link = newLink(m.task.Link)
	client := &http.Client{Transport: &http.Transport{DialContext: m.link.dial, MaxIdleConnsPerHost: 4, DisableCompression: true}}
	floor, err := fetch.Open([]string{m.task.URL}, fetch.Options{HTTP: fetch.HTTPOptions{Client: client}})
	m.from = floor
	if err != nil || !m.task.Relay {
		return err
	}
	m.node, err = relay.NewNode(m.m, manifest.DigestOf(data), floor, relay.Options{
		MachineID: m.task.ID, Key: m.task.Key, RingBytes: m.task.Ring, Dial: m.link.dial,
	})
	m.from = m.node
	return err
}

// serve opens the door for peers and says that all is ready.
func (m *member) serve(running *sync.WaitGroup) error {
	if m.node == nil {
		return m.out.write(tale{Ready: true})
	}
	l, err := net.Listen("tcp", net.JoinHostPort(m.task.Host, "0"))
	if err != nil {
		return err
	}
	running.Go(func() {
		if err := m.node.Serve(m.link.listen(l)); err != nil {
			fmt.Fprintln(os.Stderr, "machine", m.task.ID, err)
		}
	})
	return m.out.write(tale{Ready: true, URL: m.node.URL(l.Addr())})
}

// firstWord is how long a member of a relay waits to be told where to read from.
const firstWord = 500 * time.Millisecond

// write does what a deploy does.
func (m *member) write(ctx context.Context) {
	flushed := false
	options := writer.Options{RunBytes: m.task.Run, Workers: 2, Progress: func(p writer.Progress) {
		if flushed || p.Phase != writer.PhaseVerify {
			return
		}
		flushed = true
		_ = m.out.write(tale{Flushed: true}) // who listens may be gone: then the input ends, too
		if m.node != nil {
			m.node.Finish()
		}
	}}
	if m.node != nil {
		options.OnFrame = m.node.Put
	}
	if m.node != nil {
		select {
		case <-m.word:
		case <-time.After(firstWord):
		}
	}
	report, err := writer.Write(ctx, m.disk, m.m, m.from, options)
	end := tale{Ended: true}
	switch {
	case err != nil:
		end.Error = err.Error()
	case !report.Verified:
		end.Error = "not verified"
	}
	_ = m.out.write(end)
}

// tell says how things stand, as the agent does.
func (m *member) tell(ctx context.Context) {
	if m.node == nil {
		return
	}
	ticker := time.NewTicker(m.task.Tells)
	defer ticker.Stop()
	for {
		s := m.node.State()
		_ = m.out.write(tale{State: &s})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.node.Changed():
		}
	}
}

// finish compares the disk with the manifest, by other means than the writer.
func (m *member) finish() error {
	f, err := os.Open(m.task.Target)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, good := make([]byte, m.m.FrameSizeBytes), true
	for i := range m.m.Frames {
		frame := &m.m.Frames[i]
		part := buf[:frame.Size]
		if _, err := f.ReadAt(part, m.m.FrameOffset(i)); err != nil {
			return err
		}
		if frame.Zero {
			good = good && len(bytes.TrimLeft(part, "\x00")) == 0
		} else {
			good = good && manifest.Sum(part) == frame.SHA256
		}
	}
	return errors.Join(m.out.write(tale{Checked: good}), m.close())
}

func (m *member) close() error {
	err := m.disk.Close()
	if m.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if closed := m.node.Close(ctx); !errors.Is(closed, context.DeadlineExceeded) {
			err = errors.Join(err, closed)
		}
	}
	return err
}
