package main

import (
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
	cmd := &cobra.Command{Use: "events", Short: "Show what happened to machines", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			client := operator.NewEventServiceClient(conn)
			if !follow {
				list, err := client.EventList(cmd.Context(), &operator.EventListRequest{Machine: machine, PageSize: 200})
				if err != nil {
					return err
				}
				for _, e := range list.GetEvents() {
					c.event(e)
				}
				return nil
			}
			watch, err := client.EventWatch(cmd.Context(), &operator.EventWatchRequest{Machine: machine, ResumeToken: resume})
			if err != nil {
				return err
			}
			for {
				e, err := watch.Recv()
				if errors.Is(err, io.EOF) || cmd.Context().Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				c.event(e)
			}
		})
	}}
	cmd.Flags().StringVar(&machine, "machine", "", "of this machine only")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what happens")
	cmd.Flags().StringVar(&resume, "resume", "", "go on after this token; 0 starts with the oldest event")
	return cmd
}

func (c *cli) event(e *operator.Event) {
	_ = c.show(e, func() {
		detail := ""
		if d := e.GetDetail()["detail"]; d != "" {
			detail = " (" + d + ")"
		}
		fmt.Fprintf(c.out, "%s  %s %4d  %-9s %s%s\n", clock(e.GetAt()), e.GetMachineId(), e.GetSequence(), e.GetKind(), e.GetText(), detail)
	})
}

func (c *cli) leases() *cobra.Command {
	return &cobra.Command{Use: "leases", Short: "List addresses given by DHCP", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list, err := operator.NewLeaseServiceClient(conn).LeaseList(cmd.Context(), &operator.LeaseListRequest{})
			if err != nil {
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
