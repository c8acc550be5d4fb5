// Package hwtest tests the machine's parts, one file a test. A test looks and
// measures and changes nothing that is stored; a part that a test cannot be made
// with here is NOT_APPLICABLE, which is not a pass.
//
// Numbers are reported as measurements and judged only where there is something
// to judge them by: a disk that returns an error has failed, a slow one has
// not, since only its owner knows what it was sold as.
package hwtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// Verdicts, short.
const (
	passed        = hardware.TestVerdict_TEST_VERDICT_PASSED
	failed        = hardware.TestVerdict_TEST_VERDICT_FAILED
	notApplicable = hardware.TestVerdict_TEST_VERDICT_NOT_APPLICABLE
)

// Finding is what a test says of one subject.
type Finding struct {
	Subject      string // a serial, a MAC address, or "memory"
	Verdict      hardware.TestVerdict
	Detail       string
	Measurements []*hardware.Measurement
}

// Test is one test of all subjects of its kind. Run calls found for each subject
// as soon as it is known, from any goroutine; an error means that the subjects
// themselves could not be found.
type Test struct {
	Name  string
	Limit time.Duration
	Run   func(ctx context.Context, h host.Host, found func(Finding)) error
}

// All are the tests of this agent, in the order in which they are named.
func All() []Test {
	return []Test{
		{"disk-health", 2 * time.Minute, diskHealth},
		{"disk-read", 5 * time.Minute, diskRead},
		{"nic-link", time.Minute, nicLink},
		{"memory-pattern", time.Minute, memoryPattern},
	}
}

// Choose gives the tests of these names; none means all. Unknown names are
// returned, for the caller to tell.
func Choose(names []string) (chosen []Test, unknown []string) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		found := false
		for _, t := range all {
			if t.Name == name {
				chosen, found = append(chosen, t), true
			}
		}
		if !found {
			unknown = append(unknown, name)
		}
	}
	return chosen, unknown
}

// Execute runs one test and reports each subject's result; report is never
// called twice at once. A test without a subject, and one that breaks, gives one
// result of its own, so that nothing that was asked for goes unanswered.
func (t Test) Execute(ctx context.Context, h host.Host, report func(*hardware.TestResult)) {
	ctx, cancel := context.WithTimeout(ctx, t.Limit)
	defer cancel()
	start := time.Now()
	var mu sync.Mutex
	count := 0
	found := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		count++
		report(&hardware.TestResult{Test: t.Name, Subject: f.Subject, Verdict: f.Verdict, Detail: f.Detail,
			StartedAt: timestamppb.New(start), Elapsed: durationpb.New(time.Since(start)), Measurements: f.Measurements})
	}
	err := guarded(func() error { return t.Run(ctx, h, found) })
	switch {
	case err != nil:
		found(Finding{Verdict: failed, Detail: err.Error()})
	case count == 0:
		found(Finding{Verdict: notApplicable, Detail: "this machine has nothing that could be tested so"})
	}
}

func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the test has a defect: %v", p)
		}
	}()
	return f()
}

func measure(name string, value float64) *hardware.Measurement {
	return &hardware.Measurement{Name: name, Value: value}
}
