package power

import (
	"context"
	"log/slog"
	"time"
)

// Keys of log attributes.
const (
	keyBMC     = "bmc_addr"
	keyCall    = "call"
	keyElapsed = "elapsed"
	keyErr     = "err"
)

// logged writes one line for each call: Info for orders, Debug for questions,
// Warn for what failed. An Error holds no credentials, so it may be logged.
func logged(log *slog.Logger) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		begun := time.Now()
		err := next(ctx)
		level := slog.LevelInfo
		switch {
		case err != nil:
			level = slog.LevelWarn
		case c == callState || c == callBootGet || c == callIdentify:
			level = slog.LevelDebug
		}
		attrs := []slog.Attr{slog.String(keyCall, c.name), slog.Duration(keyElapsed, time.Since(begun))}
		if err != nil {
			attrs = append(attrs, slog.Any(keyErr, err))
		}
		log.LogAttrs(ctx, level, "BMC call", attrs...)
		return err
	}
}

// learned keeps how long a BMC takes to answer.
func learned(l *Latency) layer {
	return func(ctx context.Context, c call, next func(context.Context) error) error {
		begun := time.Now()
		err := next(ctx)
		if err == nil {
			l.Learn(c.name, time.Since(begun))
		}
		return err
	}
}
