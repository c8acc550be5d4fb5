package seal

import "log/slog"

// Secret is text that does not show itself: not in logs, not in errors, not in
// JSON. Reveal is the one way to it.
type Secret string

const redacted = "[redacted]"

// Reveal gives the text.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer without the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString implements fmt.GoStringer without the text.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer without the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the text out of JSON and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
