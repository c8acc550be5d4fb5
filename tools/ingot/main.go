// Ingot is the operators' command line.
//
//	ingot machine list
//	ingot machine add --hostname web1 --mac 00:16:3e:49:00:00 --bmc ipmi://10.0.0.11 --user admin --password-file pw --commission
//	ingot machine deploy web1 --image debian-12 --ssh-key ~/.ssh/id_ed25519.pub --wait
//	ingot machine release web1 --erase --wait
//	ingot image import debian-12 --arch amd64 debian.raw.zst
//	ingot image sign debian-12 --key ~/ingot.key
//	ingot events --follow
//	ingot lab up
//
// It speaks to the controller named in the context file (--context, or
// $INGOT_CONTEXT, or ~/.config/ingot/context.yaml), which `ingot lab up` writes
// for its own controller and which for others is made by hand:
//
//	address: controller.example:8443
//	ca_file: /etc/ingot/ca.pem
//	token: ingot_…
//
// Every command takes -o json. It exits with 0 when it did what was asked, 1
// when not, 2 when the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// cli is what all commands share.
type cli struct {
	in          io.Reader
	out, errOut io.Writer
	contextFile string
	output      string // table or json
}

// usageError is a command line that is wrong.
type usageError struct{ error }

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	c := &cli{in: in, out: out, errOut: errOut}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usageError{}) || strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(errOut, "ingot: %v\n", err)
		return 2
	default:
		fmt.Fprintf(errOut, "ingot: %s\n", plain(err))
		return 1
	}
}

// plain gives the text that the controller meant for people, without the
// wrapping of RPC.
func plain(err error) string {
	var wire interface{ GRPCStatus() *status.Status }
	if errors.As(err, &wire) {
		if wire.GRPCStatus().Code() == codes.Unimplemented {
			return fmt.Sprintf("what answers there does not know this call (%s): is the address in the context file the API's (port 8443), and ingotd as new as ingot?", wire.GRPCStatus().Message())
		}
		return reach(wire.GRPCStatus().Message())
	}
	return err.Error()
}

// reach says what to do when there was no controller to speak to: what gRPC says
// of it is not for people.
func reach(text string) string {
	cause, ok := strings.CutPrefix(text, "connection error: desc = ")
	switch {
	case !ok:
		return text
	case strings.Contains(cause, "x509:"):
		return fmt.Sprintf("the controller's certificate is not the one that the context file expects (%s): is ca_file the controller's ca.pem, and address one of its names?", cause)
	}
	return fmt.Sprintf("the controller cannot be reached (%s): is ingotd running, and is the address in the context file right?", cause)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "ingot",
		Short:         "Turn bare machines into running systems",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.output != "table" && c.output != "json" {
				return usageError{fmt.Errorf("-o %s: say table or json", c.output)}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&c.contextFile, "context", "", "file that names the controller (default $INGOT_CONTEXT or ~/.config/ingot/context.yaml)")
	root.PersistentFlags().StringVarP(&c.output, "output", "o", "table", "table or json")
	root.AddCommand(c.machine(), c.bmc(), c.pool(), c.image(), c.operation(), c.events(), c.leases(), c.setting(), c.token(), c.lab())
	return root
}

// exactly is cobra.ExactArgs that says what is missing by name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > len(names):
			return usageError{fmt.Errorf("%q is one word too many; flags begin with --", args[len(names)])}
		case len(args) < len(names) && len(args) > 0:
			return usageError{fmt.Errorf("give %s; there is only %q", strings.Join(names, " and "), args)}
		case len(args) < len(names):
			return usageError{fmt.Errorf("give %s", strings.Join(names, " and "))}
		}
		return nil
	}
}

// atMostOne is exactly for one word that may be left out.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return exactly("")(cmd, args)
}

// group is a command that only holds others; alone it prints them.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%s has no command %q; %s --help lists what it has", use, args[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}}
	g.AddCommand(commands...)
	return g
}
