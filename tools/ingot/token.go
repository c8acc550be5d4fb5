package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) token() *cobra.Command {
	return group("token", "Tokens: who may speak to the controller", c.tokenList(), c.tokenCreate(), c.tokenRevoke())
}

func (c *cli) tokenList() *cobra.Command {
	req := &operator.TokenListRequest{}
	cmd := &cobra.Command{Use: "list", Short: "List tokens, never what they are", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list, err := operator.NewTokenServiceClient(conn).TokenList(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(list, func() {
				var rows [][]string
				for _, t := range list.GetTokens() {
					row := []string{t.GetName(), t.GetPrefix() + "…", clock(t.GetCreatedAt()), t.GetCreatedBy(), clock(t.GetLastUsedAt()), clock(t.GetExpiresAt())}
					if req.GetAll() {
						row = append(row, clock(t.GetEndedAt()))
					}
					rows = append(rows, row)
				}
				head := "NAME TOKEN SINCE BY LAST-USED EXPIRES"
				if req.GetAll() {
					head += " ENDED"
				}
				c.table(head, rows)
			})
		})
	}}
	cmd.Flags().BoolVar(&req.All, "all", false, "also those that were revoked or have expired")
	return cmd
}

func (c *cli) tokenCreate() *cobra.Command {
	var expires string
	cmd := &cobra.Command{Use: "create NAME", Short: "Make a token for a person or a program, and show it once", Args: exactly("the name of who bears it"),
		Long: "Make a token for a person or a program. It goes to standard output, this once; the controller keeps\n" +
			"a hash only. The name stands in the audit trail. Every token may do everything: there is one level.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &operator.TokenCreateRequest{Name: args[0]}
			if expires != "" {
				at, err := expiry(expires, time.Now())
				if err != nil {
					return usageError{err}
				}
				req.ExpiresAt = timestamppb.New(at)
			}
			return c.with(func(conn *grpc.ClientConn) error {
				made, err := operator.NewTokenServiceClient(conn).TokenCreate(cmd.Context(), req)
				if err != nil {
					return err
				}
				return c.show(made, func() {
					until := "It does not expire."
					if made.GetToken().GetExpiresAt() != nil {
						until = "It expires at " + clock(made.GetToken().GetExpiresAt()) + "."
					}
					fmt.Fprintf(c.errOut, "token of %s; it cannot be seen again. %s\n", args[0], until)
					fmt.Fprintln(c.out, made.GetSecret())
				})
			})
		}}
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends: a time from now (12h, 90d), or a day (2027-01-31); never when left out")
	return cmd
}

// expiry reads 12h, 90d, or a day: its first moment, where we are.
func expiry(word string, now time.Time) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, word, now.Location()); err == nil {
		return day, nil
	}
	after, err := time.ParseDuration(word)
	if days, ok := strings.CutSuffix(word, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		after = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || after <= 0 {
		return time.Time{}, fmt.Errorf("--expires %s: want a time from now such as 12h or 90d, or a day such as 2027-01-31", word)
	}
	return now.Add(after), nil
}

func (c *cli) tokenRevoke() *cobra.Command {
	req := &operator.TokenRevokeRequest{}
	cmd := &cobra.Command{Use: "revoke NAME", Short: "End a token; what it follows ends within a minute", Args: exactly("a name"), RunE: func(cmd *cobra.Command, args []string) error {
		req.Name = args[0]
		return c.with(func(conn *grpc.ClientConn) error {
			done, err := operator.NewTokenServiceClient(conn).TokenRevoke(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(done, func() { fmt.Fprintf(c.out, "the token of %s is revoked\n", args[0]) })
		})
	}}
	cmd.Flags().BoolVar(&req.Force, "force", false, "although it is the token that you are using")
	return cmd
}
