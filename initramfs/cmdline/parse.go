package cmdline

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxLine is the longest command line that x86 Linux takes, in bytes
// (COMMAND_LINE_SIZE less the final zero). What is longer was cut by the loader.
const MaxLine = 2047

// ErrMissing is wrapped by the errors of Parse and Validate for each parameter
// that is needed and absent.
var ErrMissing = errors.New("missing on the kernel command line")

// Parse reads a kernel command line as found in /proc/cmdline. Words that are
// not ours (those of loaders too, such as BOOT_IMAGE=) become Extra when String
// could write them, and are passed over otherwise. Parameters of ours that are
// malformed, unknown, given twice or, where needed, missing are errors, all
// reported together. The Params hold the good values even when there is an error, so
// that process 1 can bring up the consoles of a machine whose line is damaged.
func Parse(line string) (Params, error) {
	var p Params
	line = strings.TrimRight(line, " \t\r\n\x00")
	if len(line) > MaxLine {
		return p, fmt.Errorf("kernel command line has %d bytes, more than the %d that fit: shorten the kernel parameters of the site or the machine", len(line), MaxLine)
	}
	var errs []error
	seen := map[string]bool{}
	for _, word := range split(line) {
		k, value, _ := strings.Cut(word, "=")
		switch {
		case k == KeyConsole:
			errs = append(errs, p.addConsole(value))
		case strings.HasPrefix(k, prefix) && seen[k]:
			errs = append(errs, fmt.Errorf("parameter %s is given twice", k))
		case strings.HasPrefix(k, prefix):
			seen[k] = true
			errs = append(errs, p.set(k, value))
		case !slices.Contains(defaults, word) && checkExtra(word) == nil && len(p.Extra) < maxExtra:
			p.Extra = append(p.Extra, word)
		}
	}
	errs = append(errs, p.missing())
	return p, errors.Join(errs...)
}

// set stores one parameter of ours. An empty value counts as absent: an iPXE
// variable that is not set expands to nothing.
func (p *Params) set(k, value string) error {
	check, known := checks[k]
	if !known {
		return fmt.Errorf("unknown parameter %.40q: the boot script is from another version of the controller", k)
	}
	if value == "" {
		return nil
	}
	if err := check(value); err != nil {
		return fmt.Errorf("parameter %s: %w", k, err)
	}
	switch k {
	case KeyNonce:
		p.Nonce = value
	case KeyController:
		p.Controller = value
	case KeyCA:
		p.CA = value
	case KeyLog:
		p.LogLevel = value
	case KeyTime:
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("parameter %s: %w", k, err)
		}
		p.Time = time.Unix(seconds, 0).UTC()
	case KeyMAC:
		mac, err := net.ParseMAC(value)
		if err != nil {
			return fmt.Errorf("parameter %s: %w", k, err)
		}
		p.BootMAC = mac
	}
	return nil
}

func (p *Params) addConsole(value string) error {
	if err := checkConsole(value); err != nil {
		return fmt.Errorf("parameter %s: %w", KeyConsole, err)
	}
	if len(p.Console) == maxConsoles {
		return fmt.Errorf("more than %d consoles", maxConsoles)
	}
	p.Console = append(p.Console, value)
	return nil
}

// split cuts a line into words at blanks, except inside double quotes, as the
// kernel does (lib/cmdline.c, next_arg).
func split(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}

// Redact returns the line with the nonce's value replaced, for logs. It works
// on any text that holds a command line, such as the kernel's own log.
func Redact(line string) string {
	const mark = KeyNonce + "="
	var out strings.Builder
	for {
		before, after, found := strings.Cut(line, mark)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		out.WriteString(mark + "[redacted]")
		end := strings.IndexAny(after, " \t\r\n\"'")
		if end < 0 {
			return out.String()
		}
		line = after[end:]
	}
}
