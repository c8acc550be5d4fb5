package api

import (
	"cmp"
	"strings"
)

// newerVersion orders versions as people number them: runs of digits by their
// value, all else by its letters, and a beginning before what continues it, but
// after its own pre-release (~). No version at all is the oldest. The result is
// negative when a is older.
func newerVersion(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = run(a, false)
		y, b = run(b, false)
		if c := cmp.Compare(letters(x), letters(y)); c != 0 {
			return c
		}
		x, a = run(a, true)
		y, b = run(b, true)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// run cuts a run of digits, or of anything else, from the start of s.
func run(s string, digits bool) (head, rest string) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9') == digits {
		i++
	}
	return s[:i], s[i:]
}

// letters maps a run without digits, and its end, so that they order as said.
func letters(s string) string {
	return strings.ReplaceAll(s, "~", "\x00") + "\x01"
}
