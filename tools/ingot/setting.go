package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) setting() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the settings", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list, err := operator.NewSettingServiceClient(conn).SettingList(cmd.Context(), &operator.SettingListRequest{})
			if err != nil {
				return err
			}
			return c.show(list, func() {
				var rows [][]string
				for _, s := range list.GetSettings() {
					rows = append(rows, []string{s.GetName(), s.GetValue(), s.GetDefaultValue(), s.GetMeaning()})
				}
				c.table("NAME VALUE DEFAULT MEANING", rows)
			})
		})
	}}
	set := &cobra.Command{Use: "set NAME VALUE", Short: "Change a setting; VALUE is a number, forever or default", Args: exactly("a name", "a value"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			s, err := operator.NewSettingServiceClient(conn).SettingSet(cmd.Context(), &operator.SettingSetRequest{Name: args[0], Value: args[1]})
			if err != nil {
				return err
			}
			return c.show(s, func() { fmt.Fprintf(c.out, "%s is %s\n", s.GetName(), s.GetValue()) })
		})
	}}
	return group("setting", "Settings of the whole installation", list, set)
}
