package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/ingot-metal/ingot/agent/session"
)

// console tells who stands before the machine what it is and what is asked of
// them. Serial lines and logs share it, so it writes plain lines, and only when
// something has changed that the log does not tell anyway: not for each phase.
type console struct {
	out  io.Writer
	last string
}

func newConsole(out io.Writer) *console { return &console{out: out} }

// show is session.Config.Show's.
func (c *console) show(s session.Status) {
	s.Job, _, _ = strings.Cut(s.Job, ":")
	var b strings.Builder
	rule := strings.Repeat("=", 64)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", name, printable(value))
		}
	}
	fmt.Fprintf(&b, "\n%s\n  Ingot\n", rule)
	line("Machine", strings.TrimSpace(s.MachineName+" "+bracket(s.MachineID)))
	connection := s.Controller + " (not connected)"
	if s.Connected {
		connection = s.Controller
	}
	line("Controller", connection)
	line("State", s.State)
	line("Working on", s.Job)
	line("Problem", s.Problem)
	line("Next step", s.NextStep)
	fmt.Fprintf(&b, "%s\n\n", rule)
	if text := b.String(); text != c.last {
		c.last = text
		_, _ = io.WriteString(c.out, text) // a courtesy, as in session.Log
	}
}

func bracket(id string) string {
	if id == "" {
		return ""
	}
	return "(" + id + ")"
}

// printable keeps what comes over the network from moving the cursor.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // those from U+0080 on too: U+009B begins a command
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + " …"
	}
	return s
}
