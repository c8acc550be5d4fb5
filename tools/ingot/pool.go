package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) pool() *cobra.Command {
	return group("pool", "Pools: machines under one policy", c.poolList(), c.poolAdd(), c.poolSet(), c.poolDelete())
}

func (c *cli) poolTable(pools ...*operator.Pool) {
	var rows [][]string
	for _, p := range pools {
		signed := "may be unsigned"
		if p.GetRequireSignedImages() {
			signed = "signed only"
		}
		rows = append(rows, []string{p.GetName(), fmt.Sprint(p.GetMachines()), signed, clock(p.GetCreatedAt())})
	}
	c.table("NAME MACHINES IMAGES SINCE", rows)
}

func (c *cli) poolList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List pools", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list, err := operator.NewPoolServiceClient(conn).PoolList(cmd.Context(), &operator.PoolListRequest{})
			if err != nil {
				return err
			}
			return c.show(list, func() { c.poolTable(list.GetPools()...) })
		})
	}}
}

const signedHelp = "only images that a trusted key has signed may be deployed to its machines"

func (c *cli) poolAdd() *cobra.Command {
	req := &operator.PoolAddRequest{}
	cmd := &cobra.Command{Use: "add NAME", Short: "Make a pool", Args: exactly("a name"), RunE: func(cmd *cobra.Command, args []string) error {
		req.Name = args[0]
		return c.with(func(conn *grpc.ClientConn) error {
			p, err := operator.NewPoolServiceClient(conn).PoolAdd(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(p, func() { c.poolTable(p) })
		})
	}}
	cmd.Flags().BoolVar(&req.RequireSignedImages, "require-signed-images", false, signedHelp)
	return cmd
}

func (c *cli) poolSet() *cobra.Command {
	var signed bool
	cmd := &cobra.Command{Use: "set NAME", Short: "Change a pool's policy", Args: exactly("a name"), RunE: func(cmd *cobra.Command, args []string) error {
		req := &operator.PoolSetRequest{Name: args[0]}
		if !cmd.Flags().Changed("require-signed-images") {
			return usageError{errors.New("say what to change: --require-signed-images or --require-signed-images=false")}
		}
		req.RequireSignedImages = &signed
		return c.with(func(conn *grpc.ClientConn) error {
			p, err := operator.NewPoolServiceClient(conn).PoolSet(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(p, func() { c.poolTable(p) })
		})
	}}
	cmd.Flags().BoolVar(&signed, "require-signed-images", false, signedHelp)
	return cmd
}

func (c *cli) poolDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Delete a pool without machines", Args: exactly("a name"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			done, err := operator.NewPoolServiceClient(conn).PoolDelete(cmd.Context(), &operator.PoolDeleteRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.show(done, func() { fmt.Fprintf(c.out, "%s deleted\n", args[0]) })
		})
	}}
}

func (c *cli) machineSet() *cobra.Command {
	var pool string
	cmd := &cobra.Command{Use: "set MACHINE --pool POOL", Short: "Change what you say of a machine", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		if pool == "" {
			return usageError{errors.New("say what to change: --pool POOL")}
		}
		return c.with(func(conn *grpc.ClientConn) error {
			m, err := operator.NewMachineServiceClient(conn).MachineSet(cmd.Context(), &operator.MachineSetRequest{Machine: args[0], Pool: &pool})
			if err != nil {
				return err
			}
			return c.show(m, func() { fmt.Fprintf(c.out, "%s (%s) is in pool %s\n", m.GetId(), m.GetHostname(), m.GetPool()) })
		})
	}}
	cmd.Flags().StringVar(&pool, "pool", "", "the pool to put it into")
	return cmd
}
