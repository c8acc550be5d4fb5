package session

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
)

const (
	maxLines     = 2000 // that wait for the outbox
	maxLineBytes = 2000
)

// Log takes the agent's log lines: it writes each to the console at once, and
// keeps it for the controller.
type Log struct {
	console io.Writer
	level   slog.Leveler
	redact  func(string) string

	mu      sync.Mutex // guards the fields below
	lines   []string
	dropped int
}

// NewLog makes the log. Every line goes through redact (cmdline.Redact), so that
// no secret of the command line reaches the console or the controller. console
// and level may be nil.
func NewLog(console io.Writer, level slog.Leveler, redact func(string) string) *Log {
	if console == nil {
		console = io.Discard
	}
	return &Log{console: console, level: level, redact: redact}
}

// Logger gives a logger that writes here.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(lineWriter{l}, &slog.HandlerOptions{Level: l.level}))
}

// lineWriter gets one whole record a call, as slog's handlers promise.
type lineWriter struct{ log *Log }

func (w lineWriter) Write(p []byte) (int, error) {
	line := w.log.redact(strings.ToValidUTF8(string(bytes.TrimRight(p, "\n")), "?"))
	if len(line) > maxLineBytes {
		line = strings.ToValidUTF8(line[:maxLineBytes], "") + " …"
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	// The console is a courtesy; one that is broken must not stop the agent.
	_, _ = io.WriteString(w.log.console, line+"\n")
	if len(w.log.lines) < maxLines {
		w.log.lines = append(w.log.lines, line)
	} else {
		w.log.dropped++
	}
	return len(p), nil
}

// take empties the log of what the controller has not got yet.
func (l *Log) take() (lines []string, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, dropped = l.lines, l.dropped
	l.lines, l.dropped = nil, 0
	return lines, dropped
}
