package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A watch survives a controller that is restarted, or another that takes over:
// what is watched goes on meanwhile.
const (
	againEvery = time.Second
	againLimit = 2 * time.Minute
)

// watched repeats a watch that the controller broke off. watch tells whether it
// got anything: a controller that never answered is an error at once.
func (c *cli) watched(ctx context.Context, watch func() (got bool, err error)) error {
	begun := false
	for since := time.Now(); ; {
		got, err := watch()
		if got {
			begun, since = true, time.Now()
		}
		if err == nil || ctx.Err() != nil || !begun || status.Code(err) != codes.Unavailable || time.Since(since) > againLimit {
			return err
		}
		if got {
			fmt.Fprintln(c.errOut, "the controller went away; asking again")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(againEvery):
		}
	}
}

// pages asks for one page of a list after the other, to the end.
func pages(ask func(token string) (next string, err error)) error {
	for token := ""; ; {
		next, err := ask(token)
		if err != nil || next == "" {
			return err
		}
		token = next
	}
}
