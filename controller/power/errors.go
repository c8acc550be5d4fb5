package power

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Kind is why a call failed: a closed set, for callers to act on. A Kind is an
// error itself, so that errors.Is(err, power.ErrCredentials) works.
type Kind string

// The kinds.
const (
	// ErrUnreachable: no connection could be made. Temporary.
	ErrUnreachable Kind = "BMC unreachable"
	// ErrTimeout: the BMC took the request and did not answer in time.
	// Whether it acted is unknown. Temporary.
	ErrTimeout Kind = "BMC does not answer"
	// ErrBusy: the BMC, or our own breaker before it, asks to come later. It
	// did not act. Temporary.
	ErrBusy Kind = "BMC busy"
	// ErrCredentials: user, password or privilege was refused. Asking again
	// may lock the account.
	ErrCredentials Kind = "BMC refuses the credentials"
	// ErrUnsupported: this BMC cannot do what was asked, or no BMC could.
	ErrUnsupported Kind = "not supported by this BMC"
	// ErrIgnored: the BMC said yes and did, or stored, nothing.
	ErrIgnored Kind = "BMC said yes and did nothing"
	// ErrCertificateChanged: another certificate than the pinned one.
	ErrCertificateChanged Kind = "BMC certificate changed"
	// ErrProtocol: the answer makes no sense, is too large, or leads elsewhere.
	ErrProtocol Kind = "BMC breaks the protocol"
)

// Error makes a Kind an error.
func (k Kind) Error() string { return string(k) }

// Error is what every call of this package and its drivers fails with.
type Error struct {
	Kind  Kind
	BMC   string // address, without credentials
	Asked string // for instance "set boot override pxe once uefi"
	Got   string // what came instead; safe to show, bounded
	Do    string // what a person should do
	// RetryAfter is when the BMC wants to be asked again; zero if it did not say.
	RetryAfter time.Duration
	Err        error // the cause, may be nil
}

// Error reads "bmc 10.0.0.7: read power state: BMC busy: 503 ...; do this".
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bmc %s: %s: %s", e.BMC, e.Asked, string(e.Kind))
	if e.Got != "" {
		b.WriteString(": " + e.Got)
	}
	if e.Do != "" {
		b.WriteString("; " + e.Do)
	}
	return b.String()
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Temporary reports whether the same call may succeed later without a person
// or another decision. A call that was cancelled is not temporary.
func Temporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return false
	}
	return e.Kind == ErrUnreachable || e.Kind == ErrTimeout || e.Kind == ErrBusy
}

// KindOf gives the kind of err, or the empty Kind if it is none of ours.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// maxText bounds what is kept of a BMC's own words.
const maxText = 300

// Clean makes a BMC's words safe to show: control characters become spaces,
// secrets become "…", the length is bounded.
func Clean(s string, secrets ...Secret) string {
	if len(s) > 16*maxText {
		s = s[:16*maxText]
	}
	for _, sec := range secrets {
		if v := sec.Reveal(); v != "" {
			s = strings.ReplaceAll(s, v, "…")
		}
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText]) + "…"
	}
	return s
}
