package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) events() *cobra.Command {
	var machine, resume string
	var follow bool
	cmd := &cobra.Command{Use: "events", Short: "Show what happened to machines", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			client := operator.NewEventServiceClient(conn)
			if !follow {
				return pages(func(token string) (string, error) {
					list, err := client.EventList(cmd.Context(), &operator.EventListRequest{Machine: machine, PageSize: 500, PageToken: token})
					for _, e := range list.GetEvents() {
						c.event(e)
					}
					return list.GetNextPageToken(), err
				})
			}
			err := c.watched(cmd.Context(), func() (bool, error) { return c.follow(cmd.Context(), client, machine, &resume) })
			if cmd.Context().Err() != nil {
				return nil // the way to end it
			}
			return err
		})
	}}
	cmd.Flags().StringVar(&machine, "machine", "", "of this machine only; one that was deleted is named by its id")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what happens")
	cmd.Flags().StringVar(&resume, "resume", "", "go on after this token; 0 starts with the oldest event")
	return cmd
}

// follow prints events from resume on, which it moves along, so that a watch that
// was broken off goes on without a gap.
func (c *cli) follow(ctx context.Context, client operator.EventServiceClient, machine string, resume *string) (got bool, err error) {
	watch, err := client.EventWatch(ctx, &operator.EventWatchRequest{Machine: machine, ResumeToken: *resume})
	if err != nil {
		return false, err
	}
	if _, err := watch.Header(); err != nil {
		return false, err
	}
	for { // the stream stands, be there events or not
		e, err := watch.Recv()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		*resume = e.GetResumeToken()
		c.event(e)
	}
}

// event prints one event, as JSON on a line of its own.
func (c *cli) event(e *operator.Event) {
	_ = c.showLine(e, func() {
		detail := ""
		if d := e.GetDetail()["detail"]; d != "" {
			detail = " (" + d + ")"
		}
		fmt.Fprintf(c.out, "%s  %s %4d  %-9s %s%s\n", clock(e.GetAt()), e.GetMachineId(), e.GetSequence(), e.GetKind(), clean(e.GetText()), clean(detail))
	})
}

func (c *cli) leases() *cobra.Command {
	return &cobra.Command{Use: "leases", Short: "List addresses given by DHCP", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list := &operator.LeaseListResponse{}
			if err := pages(func(token string) (string, error) {
				page, err := operator.NewLeaseServiceClient(conn).LeaseList(cmd.Context(), &operator.LeaseListRequest{PageToken: token})
				list.Leases = append(list.Leases, page.GetLeases()...)
				return page.GetNextPageToken(), err
			}); err != nil {
				return err
			}
			return c.show(list, func() {
				var rows [][]string
				for _, l := range list.GetLeases() {
					rows = append(rows, []string{l.GetAddress(), l.GetMac(), l.GetMachineId(), l.GetHostname(), l.GetStage(), yes(l.GetActive(), "active"), clock(l.GetExpiresAt())})
				}
				c.table("ADDRESS MAC MACHINE HOSTNAME STAGE ACTIVE EXPIRES", rows)
			})
		})
	}}
}
