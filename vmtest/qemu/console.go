package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
)

// keepConsole is how much of the console is kept in memory for Wait and for
// those who follow late; the file has all of it.
const keepConsole = 4 << 20

// Console is the serial port of a machine through all of its POSTs. Its
// methods may be called concurrently.
type Console struct {
	mu      sync.Mutex // guards what follows
	file    *os.File   // nil: not written to a file
	buf     []byte     // the last bytes
	end     int64      // position after buf, counted from the first byte ever
	changed chan struct{}
	conn    net.Conn // to the guest, nil while there is none
}

// NewConsole appends what the guest prints to file; "" keeps it in memory.
func NewConsole(file string) (*Console, error) {
	c := &Console{changed: make(chan struct{})}
	if file == "" {
		return c, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open console log: %w", err)
	}
	c.file = f
	return c, nil
}

// Close closes the log; the console must not be in use by a VM.
func (c *Console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}

// attach copies from conn until it ends.
func (c *Console) attach(conn net.Conn) {
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	b := make([]byte, 32<<10)
	for {
		n, err := conn.Read(b)
		c.add(b[:n])
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	if c.conn == conn {
		c.conn = nil
	}
	c.mu.Unlock()
}

func (c *Console) add(b []byte) {
	if len(b) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf, b...)
	if len(c.buf) > 2*keepConsole {
		c.buf = append([]byte(nil), c.buf[len(c.buf)-keepConsole:]...)
	}
	c.end += int64(len(b))
	if c.file != nil {
		_, _ = c.file.Write(b) // a full disk must not stop the guest
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Write types into the guest's serial port.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return 0, errors.New("write to console: the machine is off")
	}
	return conn.Write(b)
}

// Position is where the next byte will be; give it to Wait or Read to see
// only what comes from now on.
func (c *Console) Position() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// Read returns what was printed from a position on, waiting for at least one
// byte, and the position after it. Bytes no longer in memory are skipped.
func (c *Console) Read(ctx context.Context, from int64) ([]byte, int64, error) {
	for {
		c.mu.Lock()
		b, changed := c.since(from), c.changed
		end := c.end
		c.mu.Unlock()
		if len(b) > 0 {
			return b, end, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, from, ctx.Err()
		}
	}
}

// since returns a copy of what follows from. c.mu is held.
func (c *Console) since(from int64) []byte {
	start := max(from, c.end-int64(len(c.buf)))
	if start >= c.end {
		return nil
	}
	return append([]byte(nil), c.buf[int64(len(c.buf))-(c.end-start):]...)
}

// Wait returns the first match of re in what was printed from a position on,
// with its groups, and the position after it.
func (c *Console) Wait(ctx context.Context, from int64, re *regexp.Regexp) ([]string, int64, error) {
	for {
		c.mu.Lock()
		b, changed := c.since(from), c.changed
		start := c.end - int64(len(b))
		c.mu.Unlock()
		if at := re.FindSubmatchIndex(b); at != nil {
			var groups []string
			for i := 0; i < len(at); i += 2 {
				if at[i] < 0 {
					groups = append(groups, "")
					continue
				}
				groups = append(groups, string(b[at[i]:at[i+1]]))
			}
			return groups, start + int64(at[1]), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			tail := b[max(0, len(b)-600):]
			return nil, from, fmt.Errorf("wait for %q on the console: %w; it ends with %q", re, ctx.Err(), tail)
		}
	}
}
