package api

import (
	"net"
	"path"
	"regexp"
	"strings"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/fault"
)

// filter is a parsed filter, words joined by AND: what the database narrows by,
// and what is looked at here.
type filter struct {
	store store.MachineFilter
	rest  []func(machine.Machine) bool
}

// Bounds of a filter.
const (
	maxFilter      = 1000 // bytes
	maxFilterWords = 16
)

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9*-]{1,63}$`)

// parseFilter reads "state=ready AND hostname=web*"; the AND may be left out.
func parseFilter(text string) (filter, error) {
	var f filter
	words := strings.Fields(text)
	if len(text) > maxFilter || len(words) > 2*maxFilterWords {
		return f, fault.New(fault.Invalid, "the filter is too long: at most %d bytes and %d words", maxFilter, maxFilterWords)
	}
	for _, w := range words {
		if strings.EqualFold(w, "AND") {
			continue
		}
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return f, fault.New(fault.Invalid, "filter word %q: want KEY=VALUE", w)
		}
		if err := f.add(strings.ToLower(key), value); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f *filter) add(key, value string) error {
	text := func(of func(machine.Machine) string) error {
		pattern := strings.ToLower(value)
		if _, err := path.Match(pattern, ""); err != nil {
			return fault.New(fault.Invalid, "filter %s=%s: the pattern is malformed", key, value)
		}
		f.rest = append(f.rest, func(m machine.Machine) bool {
			ok, err := path.Match(pattern, strings.ToLower(of(m)))
			return ok && err == nil
		})
		return nil
	}
	switch key {
	case "state":
		f.store.State = machine.State(strings.ToLower(value))
		if _, ok := machine.RuleOf(f.store.State); !ok {
			return fault.New(fault.Invalid, "filter state=%s: there is no such state; ready, deployed and the like", value)
		}
		return nil
	case "hostname":
		if value == "" || !hostPattern.MatchString(value) {
			return fault.New(fault.Invalid, "filter hostname=%s: want letters, digits and hyphens, and * for any of them", value)
		}
		f.store.Hostname = strings.ToLower(value)
		return nil
	case "pool":
		if err := checkPool(value); err != nil {
			return err
		}
		f.store.Pool = value
		return nil
	case "outcome":
		return text(func(m machine.Machine) string { return string(m.Outcome) })
	case "reason":
		return text(func(m machine.Machine) string { return string(m.Reason) })
	case "architecture":
		return text(func(m machine.Machine) string { return m.Architecture })
	case "power":
		return text(func(m machine.Machine) string { return string(m.PowerState) })
	case "approved":
		if value != "true" && value != "false" {
			return fault.New(fault.Invalid, "filter approved=%s: want true or false", value)
		}
		is := value == "true"
		f.store.Approved = &is
		return nil
	case "mac":
		mac, err := net.ParseMAC(value)
		if err != nil {
			return fault.New(fault.Invalid, "filter mac=%s: want an address such as 52:54:00:12:34:56", value)
		}
		f.store.MAC = mac
		return nil
	}
	return fault.New(fault.Invalid, "filter key %q is not known: use state, hostname, mac, pool, outcome, reason, approved, architecture or power", key)
}

func (f filter) match(m machine.Machine) bool {
	for _, ok := range f.rest {
		if !ok(m) {
			return false
		}
	}
	return true
}
