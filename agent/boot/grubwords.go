package boot

import "strings"

// grubLine is one simple command: its words, or one of the marks { } alone.
type grubLine []string

// grubCommands cuts a GRUB script into simple commands, as GRUB's own
// lexer does (GRUB manual, "Shell-like scripting"): commands end at a newline
// or a semicolon, # starts a comment, quotes and backslashes keep characters,
// and braces stand alone. Variables are put in later, by expand, so words keep
// a mark where expansion is allowed.
func grubCommands(script string) []grubLine {
	var out []grubLine
	var line grubLine
	end := func() {
		if len(line) > 0 {
			out = append(out, line)
			line = nil
		}
	}
	for i := 0; i < len(script); {
		c := script[i]
		switch {
		case c == '\n' || c == ';':
			end()
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '#':
			for i < len(script) && script[i] != '\n' {
				i++
			}
		case strings.HasPrefix(script[i:], "\\\n"):
			i += 2
		case c == '{' || c == '}':
			// An opening brace ends the head of its command.
			end()
			out = append(out, grubLine{string(c)})
			i++
		default:
			word, n := grubWord(script[i:])
			line = append(line, word)
			i += n
		}
	}
	end()
	return out
}

// literalDollar stands for a dollar that is not the start of a variable. It
// cannot occur in a script, since zero bytes are dropped.
const literalDollar = "\x00"

// grubWord reads one word and returns it with its length in the script. Words
// from $ to } are kept whole, so that ${x} is not cut at its brace.
func grubWord(script string) (word string, n int) {
	var b strings.Builder
	var quote byte
	for n < len(script) {
		c := script[n]
		switch {
		case c == 0:
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote && quote != 0:
			quote = 0
		case quote == '\'':
			b.WriteString(strings.Replace(string(c), "$", literalDollar, 1))
		case c == '\\' && n+1 < len(script):
			n++
			if script[n] != '\n' {
				b.WriteString(strings.Replace(string(script[n]), "$", literalDollar, 1))
			}
		case c == '$' && n+1 < len(script) && script[n+1] == '{':
			end := strings.IndexByte(script[n:], '}')
			if end < 0 {
				end = len(script) - n - 1
			}
			b.WriteString(script[n : n+end+1])
			n += end
		case quote == 0 && strings.IndexByte(" \t\r\n;{}", c) >= 0:
			return b.String(), n
		default:
			b.WriteByte(c)
		}
		n++
	}
	return b.String(), n
}

// maxExpanded bounds a word, in bytes: a script may double a variable again and
// again.
const maxExpanded = 64 << 10

// expand puts the values of variables into a word; unknown ones are empty.
func expand(word string, vars map[string]string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(word, "$")
		b.WriteString(before)
		if !found {
			return strings.ReplaceAll(b.String(), literalDollar, "$")
		}
		name, rest := variableName(after)
		if name == "" {
			b.WriteByte('$')
		}
		if b.Len()+len(vars[name]) <= maxExpanded {
			b.WriteString(vars[name])
		}
		word = rest
	}
}

func variableName(s string) (name, rest string) {
	if inner, braced := strings.CutPrefix(s, "{"); braced {
		name, rest, _ = strings.Cut(inner, "}")
		return name, rest
	}
	n := 0
	for n < len(s) && (s[n] == '_' || s[n] >= '0' && s[n] <= '9' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
		n++
	}
	return s[:n], s[n:]
}
