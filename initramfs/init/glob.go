package main

import "strings"

// match says whether a device id fits a pattern of modules.alias: * and ? stand
// for any characters (a slash too, unlike in path.Match), [a-f0-9] and [!…] for
// one of a set. A broken pattern matches nothing. Time is bounded by
// len(pattern) × len(s).
func match(pattern, s string) bool {
	p, i := 0, 0
	starP, starI := -1, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			starP, starI = p, i
			p++
			continue
		}
		if width, ok := matchOne(pattern[p:], s[i]); ok {
			p += width
			i++
			continue
		}
		if starP < 0 {
			return false
		}
		starI++
		p, i = starP+1, starI
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne compares one character with the head of the pattern, and returns how
// long that head is.
func matchOne(pattern string, c byte) (width int, ok bool) {
	switch {
	case pattern == "":
		return 0, false
	case pattern[0] == '?':
		return 1, true
	case pattern[0] != '[':
		return 1, pattern[0] == c
	}
	end := strings.IndexByte(pattern, ']')
	if end < 2 {
		return 0, false
	}
	set := pattern[1:end]
	negated := set[0] == '!' || set[0] == '^'
	if negated {
		set = set[1:]
	}
	return end + 1, inSet(set, c) != negated
}

func inSet(set string, c byte) bool {
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= c && c <= set[i+2] {
				return true
			}
			i += 2
			continue
		}
		if set[i] == c {
			return true
		}
	}
	return false
}
