// Massbench measures how long the last of many machines waits when all of them
// write the same image at once, and what that costs the controller.
//
//	massbench [-short] [-shape auto|tc|process] [-only REGEXP] [-json FILE]
//
// Every machine is a process with the writer and the relay that the agent has
// (imaging/writer, imaging/relay); the server is a process with the handler of
// the controller (controller/image); the plan is made by the controller's board
// (controller/relay), which hears each machine twice a second. Every process has
// a network namespace, and tc shapes its link both ways. Where namespaces cannot
// be made, each process limits its own connections (-shape process).
//
// Three designs are compared: "http", every machine reads from the server;
// "chain", each reads from the one before it, whatever happens (and goes to the
// server when that one dies); "relay", ours.
//
// The image is small, for 64 machines have to decode it on one computer: 64 KiB
// frames instead of 1 MiB ones, but as many of them as an ordinary system has
// (some 600), since it is the number of frames against the number of machines
// that a chain's delay depends on. Requests are scaled alike. Machines that die
// do so between a quarter and two thirds of the way, by SIGKILL, or ("cut")
// by their link, so that nobody is told.
//
// A row is last_over_one: when the last healthy machine had flushed, in times
// that one machine alone takes by HTTP on the same links; "http" with many
// machines on a narrow uplink uses an eighth of the image, for patience.
// egress_images is what the server sent, in images. The exit status is 0 unless
// something is broken: a healthy machine without the right content.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "massbench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "machine":
			return machineMain(ctx, os.Stdin, os.Stdout)
		case "server":
			return serverMain(ctx, os.Stdin, os.Stdout)
		}
	}
	flags := flag.NewFlagSet("massbench", flag.ContinueOnError)
	short := flags.Bool("short", false, "four machines and a tiny image: some seconds")
	shape := flags.String("shape", "auto", "how links are shaped: `tc`, process, or auto")
	only := flags.String("only", "", "rows whose name matches `REGEXP`, and what they are compared with")
	out := flags.String("json", "build/bench/mass.json", "`FILE` for the rows")
	verbose := flags.Bool("v", false, "tell what every machine is told and tells")
	work := flags.String("dir", "", "`DIR` for images and disks, best in memory (default: made in /dev/shm)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	b, err := newBench(ctx, *work, *shape, *short)
	if err != nil {
		return err
	}
	b.verbose = *verbose
	rows, err := b.all(ctx, match)
	err = errors.Join(err, b.close())
	if len(rows) > 0 {
		err = errors.Join(err, report(os.Stdout, rows, *out))
	}
	return err
}
