package power

import (
	"fmt"
	"log/slog"
)

// Secret is a password that does not show in logs, JSON or %v. Only Reveal
// gives it out.
type Secret struct{ value string }

// redacted stands for a secret wherever one would be printed.
const redacted = "[redacted]"

// NewSecret keeps s.
func NewSecret(s string) Secret { return Secret{value: s} }

// Reveal gives the secret, for the one place that sends it to its BMC.
func (s Secret) Reveal() string { return s.value }

// Format keeps every verb of fmt from printing it, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String gives "[redacted]".
func (s Secret) String() string { return redacted }

// LogValue gives "[redacted]" to slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "[redacted]", also to JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
