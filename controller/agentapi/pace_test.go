package agentapi

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: an agent that nobody approved is slowed down soon, another one late.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			approved bool
			reports  int
			want     time.Duration
		}{{false, strangersAtOnce, 0}, {false, strangersAtOnce + 20, 10 * time.Second}, {true, reportsAtOnce / 2, 0}} {
			p := newPace()
			p.trust(tt.approved)
			time.Sleep(time.Minute) // fills what trust has widened
			begun := time.Now()
			for range tt.reports {
				if err := p.report(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := time.Since(begun).Round(time.Millisecond); got != tt.want {
				t.Errorf("%d reports, approved %t: took %s, want %s", tt.reports, tt.approved, got, tt.want)
			}
		}
	})
}

func TestPaceOfLines(t *testing.T) {
	t.Parallel()
	p := newPace()
	written := 0
	for range 10_000 {
		if p.line() {
			written++
		}
	}
	if written < strangerLinesAtOnce || written > 2*strangerLinesAtOnce {
		t.Errorf("got %d lines of 10000 in the log, want about %d", written, strangerLinesAtOnce)
	}
}
