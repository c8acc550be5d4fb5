package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// part is a long runner: it returns nil soon after ctx ends, or an error when it
// cannot go on.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runAll runs parts until ctx ends or one of them fails, and waits for all.
func runAll(ctx context.Context, log *slog.Logger, parts []part) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		group.Go(func() error {
			if err := p.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s: ended although nobody asked it to", p.name)
			}
			log.Debug("part ended", "part", p.name)
			return nil
		})
	}
	return group.Wait()
}

// runInOrder runs the doors, where requests come in, and the house behind them.
// The house is left only when all doors are shut.
func runInOrder(ctx context.Context, log *slog.Logger, doors, house []part) error {
	houseCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	doorsCtx, shut := context.WithCancel(ctx)
	defer shut()
	ended := make(chan error, 1)
	go func() {
		err := runAll(houseCtx, log, house)
		shut() // a house that fell has no use for doors
		ended <- err
	}()
	err := runAll(doorsCtx, log, doors)
	leave()
	return errors.Join(err, <-ended)
}

// stopLimit is how long a listener's calls under way may take to end.
const stopLimit = 8 * time.Second

// serveHTTP makes a part of an HTTP server on open listeners. With a TLS
// configuration it speaks HTTPS and HTTP/2.
func serveHTTP(name string, srv *http.Server, listeners []net.Listener) part {
	return part{name, func(ctx context.Context) error {
		served := make(chan error, len(listeners))
		secure := srv.TLSConfig != nil // Serve sets it as well
		for _, l := range listeners {
			go func() {
				if secure {
					served <- srv.ServeTLS(l, "", "")
					return
				}
				served <- srv.Serve(l)
			}()
		}
		var failed error
		select {
		case <-ctx.Done():
		case err := <-served: // one fell; the others end with it
			served <- err
		}
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		if err := srv.Shutdown(stopping); err != nil {
			err = srv.Close() // what did not end in time is cut off
			failed = errors.Join(failed, err)
		}
		for range listeners {
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				failed = errors.Join(failed, err)
			}
		}
		return failed
	}}
}

// again runs f anew after a pause when it fails, for what the controller can do
// without for a while.
func again(name string, log *slog.Logger, f func(ctx context.Context) error) part {
	const pause = 5 * time.Second
	return part{name, func(ctx context.Context) error {
		for {
			err := f(ctx)
			if ctx.Err() != nil {
				return nil
			}
			log.Error("part failed and starts again", "part", name, "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
	}}
}

// listen opens one port on several hosts; on an error none stays open.
func listen(hosts []string, port int) ([]net.Listener, error) {
	var out []net.Listener
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, fmt.Sprint(port)))
		if err != nil {
			for _, open := range out {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}
