package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) bmc() *cobra.Command {
	return group("bmc", "BMCs: how a machine's power is driven", c.bmcSet(), c.bmcTest())
}

// accessFlags say how to reach a BMC. Passwords come by file only: a command
// line can be seen by others.
type accessFlags struct{ url, user, passwordFile, certificate string }

func (a *accessFlags) add(f *pflag.FlagSet, urlFlag string) {
	f.StringVar(&a.url, urlFlag, "", "ipmi://HOST, redfish://HOST or manual:")
	f.StringVar(&a.user, "user", "", "user of the BMC")
	f.StringVar(&a.passwordFile, "password-file", "", "file with the BMC's password, - for standard input")
	f.StringVar(&a.certificate, "certificate", "", "SHA-256 of its certificate, hex (default: the first one seen is pinned)")
}

// read gives nil when no BMC was named.
func (a *accessFlags) read(c *cli) (*operator.BMCAccess, error) {
	if a.url == "" {
		if a.user != "" || a.passwordFile != "" {
			return nil, usageError{fmt.Errorf("user or password without the BMC's URL")}
		}
		return nil, nil
	}
	access := &operator.BMCAccess{Url: a.url, User: a.user, CertificateSha256: a.certificate}
	if a.passwordFile != "" {
		data, err := c.readFile(a.passwordFile, 4096)
		if err != nil {
			return nil, fmt.Errorf("read the BMC's password: %w", err)
		}
		access.Password = strings.TrimRight(string(data), "\r\n")
	}
	return access, nil
}

// readFile reads a file or standard input (-), refusing more than limit bytes.
func (c *cli) readFile(path string, limit int64) ([]byte, error) {
	in := c.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than the limit of %d bytes", path, limit)
	}
	return data, err
}

func (c *cli) bmcSet() *cobra.Command {
	var access accessFlags
	cmd := &cobra.Command{Use: "set MACHINE --url URL", Short: "Say how a machine's BMC is reached", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		a, err := access.read(c)
		if err != nil {
			return err
		}
		if a == nil {
			return usageError{fmt.Errorf("give the BMC's address: --url ipmi://HOST, redfish://HOST or manual:")}
		}
		return c.with(func(conn *grpc.ClientConn) error {
			b, err := operator.NewMachineServiceClient(conn).BMCSet(cmd.Context(), &operator.BMCSetRequest{Machine: args[0], Access: a})
			if err != nil {
				return err
			}
			return c.show(b, func() {
				fmt.Fprintf(c.out, "BMC of %s is %s; try it: ingot bmc test %s\n", args[0], b.GetUrl(), args[0])
			})
		})
	}}
	access.add(cmd.Flags(), "url")
	return cmd
}

func (c *cli) bmcTest() *cobra.Command {
	return &cobra.Command{Use: "test MACHINE", Short: "Talk to a machine's BMC; changes nothing", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			r, err := operator.NewMachineServiceClient(conn).BMCTest(cmd.Context(), &operator.BMCTestRequest{Machine: args[0]})
			if err != nil {
				return err
			}
			if err := c.show(r, func() {
				b := r.GetBmc()
				c.facts("bmc", b.GetUrl(), "power", r.GetPowerState(), "vendor", b.GetVendor(), "model", b.GetModel(), "firmware", b.GetFirmware(),
					"certificate", b.GetCertificateSha256(), "took", seconds(r.GetElapsed().AsDuration()))
			}); err != nil {
				return err
			}
			if !r.GetOk() {
				return fmt.Errorf("%s", r.GetProblem())
			}
			return nil
		})
	}}
}
