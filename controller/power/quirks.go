package power

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Quirk is one rule of the quirk table: which BMCs, and what is odd there.
type Quirk struct {
	Name     string `yaml:"name"`
	Vendor   string `yaml:"vendor"`   // prefix, without case; required
	Model    string `yaml:"model"`    // likewise; empty matches all
	Firmware string `yaml:"firmware"` // likewise
	Why      string `yaml:"why"`

	Flags `yaml:",inline"`
}

// Flags are what drivers and operations do otherwise. The zero value is a BMC
// that keeps to the standard.
type Flags struct {
	RepeatMode      bool          `yaml:"repeat_mode"`
	NoIfMatch       bool          `yaml:"no_if_match"`
	BasicAuth       bool          `yaml:"basic_auth"`
	OneBootFieldSet bool          `yaml:"one_boot_field_set"`
	KexecUnsafe     bool          `yaml:"kexec_unsafe"`
	Settle          time.Duration `yaml:"settle"`
	OffLimit        time.Duration `yaml:"off_limit"`
}

// Quirks is the table.
type Quirks []Quirk

// maxQuirks bounds a table, which may come from an operator's file.
const maxQuirks = 1000

//go:embed quirks.yaml
var builtinQuirks []byte

// BuiltinQuirks is the table that comes with the program.
func BuiltinQuirks() (Quirks, error) { return ParseQuirks(builtinQuirks) }

// ParseQuirks reads a table in the form of quirks.yaml; unknown words are
// refused by name and line.
func ParseQuirks(text []byte) (Quirks, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var q Quirks
	if err := dec.Decode(&q); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read quirk table: %w", err)
	}
	if len(q) > maxQuirks {
		return nil, fmt.Errorf("quirk table has %d rules, at most %d are taken", len(q), maxQuirks)
	}
	for i, r := range q {
		if r.Name == "" || r.Vendor == "" {
			return nil, fmt.Errorf("quirk table, rule %d: name and vendor are needed", i+1)
		}
	}
	return q, nil
}

// Match gives the names of the rules for a BMC, and their flags together.
// Of two durations the longer one counts.
func (q Quirks) Match(vendor, model, firmware string) ([]string, Flags) {
	var names []string
	var f Flags
	for _, r := range q {
		if !hasPrefixFold(vendor, r.Vendor) || !hasPrefixFold(model, r.Model) || !hasPrefixFold(firmware, r.Firmware) {
			continue
		}
		names = append(names, r.Name)
		f.RepeatMode = f.RepeatMode || r.RepeatMode
		f.NoIfMatch = f.NoIfMatch || r.NoIfMatch
		f.BasicAuth = f.BasicAuth || r.BasicAuth
		f.OneBootFieldSet = f.OneBootFieldSet || r.OneBootFieldSet
		f.KexecUnsafe = f.KexecUnsafe || r.KexecUnsafe
		f.Settle = max(f.Settle, r.Settle)
		f.OffLimit = max(f.OffLimit, r.OffLimit)
	}
	return names, f
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
