// Command mkimage builds one of the images that the lab and the scenarios
// deploy, and puts a sparse copy of it where it is told.
//
//	go run ./vmtest/image/mkimage -kind tiny|debian [-o FILE] [-cache DIR] [-v]
//
// It prints the path of the image. Without -o that is the path in the cache,
// whose files are never changed after they were made: copy before you boot one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ingot-metal/ingot/vmtest/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	kind := flags.String("kind", "", "tiny or debian")
	out := flags.String("o", "", "`file` to write; empty prints the path in the cache")
	cacheDir := flags.String("cache", "build/cache/images", "`directory` of finished images")
	verbose := flags.Bool("v", false, "log every program that runs")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))

	build := map[string]func(context.Context, string, *slog.Logger) (string, error){
		"tiny": image.Tiny,
		"debian": func(ctx context.Context, cacheDir string, log *slog.Logger) (string, error) {
			return image.Debian(ctx, cacheDir, image.Lean(), log)
		},
	}[*kind]
	if build == nil {
		return fmt.Errorf("-kind is %q: say -kind tiny or -kind debian", *kind)
	}
	dir, err := filepath.Abs(*cacheDir)
	if err != nil {
		return err
	}
	path, err := build(ctx, dir, log)
	if err != nil {
		return err
	}
	if *out != "" {
		if err := copySparse(ctx, path, *out); err != nil {
			return err
		}
		path = *out
	}
	fmt.Println(path)
	return nil
}

// copySparse replaces the file to at once, so that nobody sees half of it.
func copySparse(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	partial := to + ".partial"
	cmd := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=auto", from, partial)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy image to %s: %w: %s", partial, err, text)
	}
	return os.Rename(partial, to)
}
