package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ramBytes bounds the RAM disk.
const ramBytes = 6 << 30

// envOwn tells the second process that it has mounts of its own.
const envOwn = "IMAGEBENCH_OWN_MOUNTS"

// inOwnNamespace runs the command again with mounts of its own, if root runs
// it: the RAM disk then goes away with the process, however that ends.
func inOwnNamespace(ctx context.Context, self string, args []string) (done bool, err error) {
	if os.Geteuid() != 0 || os.Getenv(envOwn) != "" {
		return false, nil
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envOwn+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return true, errors.New("the benchmark ended with an error")
	} else if err != nil {
		return true, fmt.Errorf("start with mounts of its own: %w", err)
	}
	return true, nil
}

// ramDisk gives a directory in memory: a tmpfs of its own, or without root a
// directory in /dev/shm.
func ramDisk(dir string) (string, func() error, error) {
	if os.Getenv(envOwn) == "" {
		made, err := os.MkdirTemp("/dev/shm", "imagebench-")
		return made, func() error { return os.RemoveAll(made) }, err
	}
	path := filepath.Join(dir, "ram")
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("imagebench", path, "tmpfs", 0, fmt.Sprintf("size=%d", ramBytes)); err != nil {
		return "", nil, fmt.Errorf("mount a RAM disk at %s: %w", path, err)
	}
	return path, func() error { return unix.Unmount(path, 0) }, nil
}

// newBench with the peers that are wanted and installed.
func newBench(self string, o options, log *slog.Logger, known []peer) *bench {
	b := &bench{dir: o.dir, self: self, opts: o, log: log, ours: map[string]packed{}}
	for _, p := range known {
		if !b.wants(p.name) {
			continue
		}
		if err := p.missing(); err != nil {
			b.notes = append(b.notes, err.Error())
			continue
		}
		b.peers = append(b.peers, p)
	}
	b.notes = append(b.notes, "desync left out: Debian has no package of it")
	return b
}

// run makes what is missing, measures, saves, and prints the report to out.
func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	if err := os.MkdirAll(b.inputDir(), 0o755); err != nil {
		return err
	}
	makeImages := debianImages
	if b.opts.short {
		makeImages = smallImages
	}
	subjects, notes, err := makeImages(ctx, b.dir, b.opts.images, b.log)
	if err != nil {
		return err
	}
	b.notes = append(b.notes, notes...)
	if b.store, err = openStore(b.dir, b.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if err := b.prepare(ctx, subjects); err != nil {
		return err
	}
	if b.server, err = startServer(b.store, b.inputDir()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.close()) }()
	dests, closeDests, err := b.dests()
	if err != nil {
		return err
	}
	// What was measured before an error, or before somebody had enough, is kept.
	return errors.Join(b.measure(ctx, subjects, dests), closeDests(), b.report(out))
}

func (b *bench) report(out io.Writer) error {
	limits := b.limits()
	rows := b.rows(limits)
	var judged []string
	if !b.opts.short { // small images say nothing about goals
		judged = goals(rows)
	}
	return errors.Join(save(b.opts.out, rows, limits), printReport(out, rows, limits, b.notes, judged), wrong(rows))
}

// dests are the places that are written to: memory first.
func (b *bench) dests() ([]dest, func() error, error) {
	var all []dest
	end := func() error { return nil }
	if contains(b.opts.dests, "ram") {
		dir, remove, err := ramDisk(b.dir)
		if err != nil {
			return nil, nil, err
		}
		all, end = append(all, dest{"ram", dir, !b.opts.short}), remove
	}
	if contains(b.opts.dests, "disk") {
		all = append(all, dest{"disk", b.dir, !b.opts.short})
	}
	return all, end, nil
}
