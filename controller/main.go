// Ingotd is the controller: it boots bare machines over the network, puts
// operating systems on them, and tells what it does, over one API.
//
//	ingotd --interface eth1 --dhcp-range 10.0.0.100-10.0.0.200 --boot-dir build/boot
//
// It keeps its state in PostgreSQL: the one that --database names, or a private
// one in the data directory, from the host's installed binaries. At its very
// first start it prints an admin token, once, and it writes the certificate that
// clients pin to ca.pem in the data directory; ~/.config/ingot/context.yaml with
// address, ca_file and token is all that the command line ingot needs.
//
// When all listeners answer it prints a line that begins with "ready: ". Logs go
// to standard error. SIGTERM or SIGINT stops it in good order; a second one, or
// any other end, loses nothing that was acknowledged.
//
// It needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW, for the ports of DHCP
// (67) and TFTP (69), and not otherwise. All settings are flags, or keys of the
// same names in a YAML file that --config names; ingotd --help lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ingot-metal/ingot/controller/daemon"
)

func main() {
	config, err := daemon.ParseConfig(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingotd:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := daemon.Run(ctx, config, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ingotd:", err)
		os.Exit(1)
	}
}
