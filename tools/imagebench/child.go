package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/writer"
)

// written is what our writer, in a process of its own, says at its end.
type written struct {
	// FlushedAt is the wall clock when everything was flushed, in ns.
	FlushedAt int64
	// PeakBytes is the most resident memory, by the kernel's count.
	PeakBytes int64
	Report    writer.Report
}

// writeImage is the hidden command `imagebench write`: it does with an image
// what the agent's deploy does in its phases layout and write, with the same
// options and limits.
func writeImage(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("write", flag.ContinueOnError)
	manifestFile := flags.String("manifest", "", "`file` of the manifest")
	url := flags.String("url", "", "`URL` of the frames")
	dest := flags.String("dest", "", "disk or `file` to write")
	sector := flags.Int("sector", 512, "sector `bytes`, for a file")
	reuse := flags.Bool("reuse", false, "the target has an image already")
	profile := flags.String("profile", "", "`file` for a CPU profile")
	if err := flags.Parse(args); err != nil {
		return err
	}
	debug.SetMemoryLimit(512 << 20) // agent/main.go, as the next
	runtime.GOMAXPROCS(runtime.NumCPU() + writer.BlockedThreads)
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	data, err := os.ReadFile(*manifestFile)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(data)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}}
	source, err := fetch.Open([]string{*url}, fetch.Options{HTTP: fetch.HTTPOptions{Client: client}})
	if err != nil {
		return err
	}
	device, err := writer.Open(*dest, writer.OpenOptions{SectorSize: *sector})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	return writeTo(ctx, device, m, source, *reuse)
}

func writeTo(ctx context.Context, device *writer.Device, m *manifest.Manifest, source fetch.Source, reuse bool) error {
	if err := writer.WipeSignatures(device); err != nil {
		return err
	}
	var result written
	options := writer.Options{Reuse: reuse, MemoryBytes: writerMemory(), Progress: func(p writer.Progress) {
		if p.Phase == writer.PhaseVerify && result.FlushedAt == 0 {
			result.FlushedAt = time.Now().UnixNano()
		}
	}}
	var err error
	if result.Report, err = writer.Write(ctx, device, m, source, options); err != nil {
		return err
	}
	if !result.Report.Verified {
		return errors.New("the writer ended without having verified the image")
	}
	result.PeakBytes = peakOf(os.Getpid())
	return json.NewEncoder(os.Stdout).Encode(result)
}

// writerMemory is what the agent allows the writer (agent/machine.go).
func writerMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 32 << 20
	}
	return min(max(int64(info.Totalram)*int64(info.Unit)/8, 32<<20), 128<<20)
}

// ourWriter is the command line of our writer in a process of its own.
func ourWriter(self string, p job) []string {
	args := []string{self, "write", "-manifest", p.manifestFile, "-url", p.framesURL, "-dest", p.dest, "-sector", fmt.Sprint(p.sectorSize)}
	if p.reuse {
		args = append(args, "-reuse")
	}
	if p.profile != "" {
		args = append(args, "-profile", p.profile)
	}
	return args
}

// job is one write by our own writer.
type job struct {
	manifestFile, framesURL, dest string
	sectorSize                    int
	reuse                         bool
	profile                       string
}
