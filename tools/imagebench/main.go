// Command imagebench measures how images get onto disks: our writer beside
// what people use instead, and against the limit of the machine it runs on.
//
//	go run ./tools/imagebench [-rounds N] [-images sparse,dense,4kn] [-writers …] [-short]
//
// Images are made of Debian packages and kept, with the peers' inputs, below
// -dir. Every writer is a process (or a pipeline of them) of its own, reads
// from one HTTP server on loopback, flushes, and starts from a blank target;
// all take turns in every round. The numbers are medians. The limit is made of
// the same work's parts, each measured alone in the same rounds: the larger of
// the slowest part and all CPU seconds over the cores.
//
// It ends with an error when something broke, not when a goal is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "imagebench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "write": // hidden: our writer as a process of its own
			return writeImage(ctx, args[1:])
		case "leg": // hidden: one part of the limit
			return runLeg(ctx, args[1:])
		}
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if ok, err := inOwnNamespace(ctx, self, args); ok || err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return newBench(self, o, log, peers()).run(ctx, os.Stdout)
}

// options of the command.
type options struct {
	dir, out                      string
	rounds                        int
	images, dests, writers, dirty []string
	short, profiles, verbose      bool
}

func parseOptions(args []string) (options, error) {
	flags := flag.NewFlagSet("imagebench", flag.ContinueOnError)
	o := options{}
	flags.StringVar(&o.dir, "dir", "build/bench", "`directory` of images, inputs and results; on the disk to be measured")
	flags.StringVar(&o.out, "o", "", "`file` for the rows (default imaging.json in the directory)")
	flags.IntVar(&o.rounds, "rounds", 5, "how often everybody has a turn")
	images := flags.String("images", "", "only these, of sparse, dense and 4kn")
	dests := flags.String("dests", "", "only these, of ram and disk")
	writers := flags.String("writers", "", "only these")
	dirty := flags.String("dirty", "sparse", "images that are also written over old data, once")
	flags.BoolVar(&o.short, "short", false, "one round with small images that need no packages")
	flags.BoolVar(&o.profiles, "profiles", false, "leave CPU profiles of our writer's last round")
	flags.BoolVar(&o.verbose, "v", false, "log every write")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 {
		return o, fmt.Errorf("arguments %q and %d rounds: only flags, and at least one round", flags.Args(), o.rounds)
	}
	o.images, o.dests, o.writers, o.dirty = list(*images), list(*dests), list(*writers), list(*dirty)
	if o.short {
		o.rounds = 1
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return o, err
	}
	o.dir = dir
	if o.out == "" {
		o.out = filepath.Join(dir, "imaging.json")
	}
	return o, nil
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
