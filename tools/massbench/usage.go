package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func cores() float64 { return float64(runtime.NumCPU()) }

// stat is the computer's CPU time, in ticks.
type stat struct{ all, idle float64 }

func readStat() stat {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return stat{}
	}
	var s stat
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseFloat(field, 64) // the kernel writes numbers
		if i < 8 {
			s.all += n
		}
		if i == 3 || i == 4 {
			s.idle += n
		}
	}
	return s
}

// since is the share of the computer that was busy, with whatever.
func (s stat) since(before stat) float64 {
	if s.all == before.all {
		return 0
	}
	return 1 - (s.idle-before.idle)/(s.all-before.all)
}

// cpu is what the processes of a round have used, those that were killed left
// out.
func (r *round) cpu() time.Duration {
	sum := r.server.cpu()
	for _, p := range r.crowd {
		sum += p.cpu()
	}
	return sum
}

// ticks a second of /proc/PID/stat, see proc_pid_stat(5); it is 100 everywhere.
const ticks = 100

func (p *proc) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	_, after, found := bytes.Cut(data, []byte(") "))
	fields := strings.Fields(string(after))
	if err != nil || !found || len(fields) < 13 {
		return 0 // it is gone
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticks
}

// peak is the most memory that the process has had, in MiB.
func (p *proc) peak() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib / 1024
		}
	}
	return 0
}
