package main

import (
	"context"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// link limits connections of this process, each way; the zero value does not.
type link struct{ in, out *rate.Limiter }

// piece is how much passes a limiter at once, in bytes.
const piece = 8 << 10

func newLink(bytesPerSecond float64) *link {
	if bytesPerSecond <= 0 {
		return &link{}
	}
	limiter := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(bytesPerSecond), 4*piece) }
	return &link{limiter(), limiter()}
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
	if err != nil || l.in == nil {
		return c, err
	}
	return &limited{c, l}, nil
}

func (l *link) listen(at net.Listener) net.Listener {
	if l.in == nil {
		return at
	}
	return &limitedListener{at, l}
}

type limitedListener struct {
	net.Listener
	link *link
}

func (l *limitedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limited{c, l.link}, nil
}

// limited is a connection through a link.
type limited struct {
	net.Conn
	link *link
}

func (c *limited) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), piece)])
	if n > 0 {
		_ = c.link.in.WaitN(context.Background(), n) // n is below the burst
	}
	return n, err
}

func (c *limited) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		part := p[done:min(done+piece, len(p))]
		_ = c.link.out.WaitN(context.Background(), len(part))
		n, err := c.Conn.Write(part)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
