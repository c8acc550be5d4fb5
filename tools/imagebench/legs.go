package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// legs of a deploy, in the order of the report. The first five are what a
// flushed image needs at least, the last two what reading it back adds.
var legs = []string{"network", "decode", "packed-sha256", "xxh3", "write", "read", "sha256"}

// flushLegs is how many of legs belong to a flushed image.
const flushLegs = 5

// legTime is what one leg took alone.
type legTime struct{ WallS, CPUS float64 }

// leg has what all legs need. Everything that is read is in memory before the
// clock starts; only the leg's own work is measured.
type leg struct {
	m           *manifest.Manifest
	raw, packed []byte // mapped; nil if the leg does not use it
	url, dest   string
}

// runLeg is the hidden command `imagebench leg NAME`.
func runLeg(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("leg", flag.ContinueOnError)
	name := flags.String("name", "", "which `leg`")
	manifestFile := flags.String("manifest", "", "`file` of the manifest")
	packedFile := flags.String("packed", "", "`file` of the frames")
	rawFile := flags.String("raw", "", "raw disk `file`")
	l := leg{}
	flags.StringVar(&l.url, "url", "", "`URL` of the frames")
	flags.StringVar(&l.dest, "dest", "", "`file` to write or to read")
	if err := flags.Parse(args); err != nil {
		return err
	}
	data, err := os.ReadFile(*manifestFile)
	if err != nil {
		return err
	}
	if l.m, err = manifest.Parse(data); err != nil {
		return err
	}
	if l.packed, err = mapFile(*packedFile); err != nil {
		return err
	}
	if l.raw, err = mapFile(*rawFile); err != nil {
		return err
	}
	do, err := l.prepare(*name)
	if err != nil {
		return err
	}
	before, start := cpuTime(), time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("leg %s: %w", *name, err)
	}
	took := legTime{WallS: time.Since(start).Seconds(), CPUS: (cpuTime() - before).Seconds()}
	return json.NewEncoder(os.Stdout).Encode(took)
}

func (l *leg) prepare(name string) (func(context.Context) error, error) {
	switch name {
	case "network":
		return l.network, nil
	case "decode":
		touch(l.packed)
		return l.decode, nil
	case "packed-sha256":
		touch(l.packed)
		return l.eachFrame(func(i int, f *manifest.Frame) bool {
			return manifest.Sum(l.packed[f.Offset:][:f.PackedSize]) == f.PackedSHA256
		}), nil
	case "xxh3":
		l.touchContent()
		return l.eachFrame(func(i int, f *manifest.Frame) bool { return xxh3.Hash(l.content(i)) == f.XXH3 }), nil
	case "sha256":
		l.touchContent()
		return l.eachFrame(func(i int, f *manifest.Frame) bool { return manifest.Sum(l.content(i)) == f.SHA256 }), nil
	case "write":
		l.touchContent()
		return l.write(l.extents()), nil
	case "read":
		return l.read, nil
	}
	return nil, fmt.Errorf("no such leg as %q", name)
}

func (l *leg) content(i int) []byte {
	return l.raw[l.m.FrameOffset(i):][:l.m.Frames[i].Size]
}

// network fetches what the writer fetches, and throws it away.
func (l *leg) network(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, ReadBufferSize: 256 << 10}}
	src, err := fetch.NewHTTP(l.url, fetch.HTTPOptions{Client: client})
	if err != nil {
		return err
	}
	for _, run := range l.m.Runs(l.m.DataFrames(), manifest.RunLimits{Bytes: 1 << 40, Gap: 64 << 10}) {
		body, err := src.Range(ctx, run.Offset, run.Length)
		if err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, make([]byte, 256<<10))
		body.Close()
		if err != nil || n != run.Length {
			return fmt.Errorf("%d of %d bytes: %w", n, run.Length, err)
		}
	}
	return nil
}

func (l *leg) decode(ctx context.Context) error {
	return parallel(func(next func() (int, bool)) error {
		dec, err := codec.NewFrameDecoder(int(l.m.FrameSizeBytes))
		if err != nil {
			return err
		}
		defer dec.Close()
		buf := make([]byte, l.m.FrameSizeBytes)
		for i, ok := next(); ok; i, ok = next() {
			if f := &l.m.Frames[i]; !f.Zero {
				if err := dec.Decode(l.packed[f.Offset:][:f.PackedSize], buf[:f.Size]); err != nil {
					return err
				}
			}
		}
		return nil
	}, len(l.m.Frames))
}

// eachFrame runs check for every frame with data, on all cores.
func (l *leg) eachFrame(check func(i int, f *manifest.Frame) bool) func(context.Context) error {
	return func(context.Context) error {
		return parallel(func(next func() (int, bool)) error {
			for i, ok := next(); ok; i, ok = next() {
				if f := &l.m.Frames[i]; !f.Zero && !check(i, f) {
					return fmt.Errorf("frame %d has another hash than its manifest says", i)
				}
			}
			return nil
		}, len(l.m.Frames))
	}
}

// parallel runs do on every core; next gives the numbers below count, each once.
func parallel(do func(next func() (int, bool)) error, count int) error {
	var counter atomic.Int64
	next := func() (int, bool) {
		i := int(counter.Add(1)) - 1
		return i, i < count
	}
	var group errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error { return do(next) })
	}
	return group.Wait()
}

func cpuTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// mapFile maps a whole file for reading; "" gives nothing.
func mapFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, errors.New(path + " is empty")
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
}
