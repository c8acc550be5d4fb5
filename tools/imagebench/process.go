package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// usage is what a writer took, as a whole: all its processes, from the first
// one's start to the last one's end.
type usage struct {
	started time.Time
	wall    time.Duration
	cpu     time.Duration // user and system, without kernel threads
	peak    int64         // sum of the processes' own peaks of resident memory, bytes
	out     []byte        // what the last one printed
}

// peakEvery is how often memory is looked at. The kernel keeps the peak, so
// only growth in the last moment of a process is missed.
const peakEvery = 25 * time.Millisecond

// runPipeline starts the programs, each reading what the one before it writes,
// and waits for all of them. Any that fails makes it fail.
func runPipeline(ctx context.Context, stages [][]string) (usage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var u usage
	var out bytes.Buffer
	complaints := make([]bytes.Buffer, len(stages))
	cmds := make([]*exec.Cmd, len(stages))
	var upstream *os.File
	u.started = time.Now()
	for i, args := range stages {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stderr = &complaints[i]
		var ends []io.Closer
		if upstream != nil {
			cmd.Stdin = upstream
			ends = append(ends, upstream)
		}
		if i == len(stages)-1 {
			cmd.Stdout = &out
		} else {
			r, w, err := os.Pipe()
			if err != nil {
				return u, errors.Join(err, stop(cancel, cmds[:i]))
			}
			cmd.Stdout, upstream = w, r
			ends = append(ends, w)
		}
		err := cmd.Start()
		for _, end := range ends { // the children have their own
			end.Close()
		}
		if err != nil {
			return u, errors.Join(err, stop(cancel, cmds[:i]))
		}
		cmds[i] = cmd
	}
	peaks := watchPeaks(cmds)
	var errs []error
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", strings.Join(stages[i], " "), err, clip(complaints[i].String(), 500)))
		}
		u.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	u.wall = time.Since(u.started)
	u.peak, u.out = peaks(), out.Bytes()
	return u, errors.Join(errs...)
}

// stop ends what was started when a later stage could not be.
func stop(cancel func(), cmds []*exec.Cmd) error {
	cancel()
	for _, cmd := range cmds {
		_ = cmd.Wait() // it was killed; that is no news
	}
	return nil
}

// watchPeaks looks at the processes and their descendants until the function
// it returns is called, which gives the sum of their peaks.
func watchPeaks(cmds []*exec.Cmd) func() int64 {
	peaks := map[int]int64{}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(peakEvery)
		defer tick.Stop()
		for {
			for _, cmd := range cmds {
				lookAt(cmd.Process.Pid, peaks)
			}
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() int64 {
		close(end)
		<-ended
		var sum int64
		for _, p := range peaks {
			sum += p
		}
		return sum
	}
}

// lookAt notes the peak of a process and of its children. The number of a
// process that has ended is not given out again so soon.
func lookAt(pid int, peaks map[int]int64) {
	peaks[pid] = max(peaks[pid], peakOf(pid))
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return
	}
	for _, field := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(field); err == nil {
			lookAt(child, peaks)
		}
	}
}

// peakOf is the most resident memory that a process had, in bytes; 0 if there
// is no such process any more.
func peakOf(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if fields := strings.Fields(value); len(fields) > 0 {
				kib, _ := strconv.ParseInt(fields[0], 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}
