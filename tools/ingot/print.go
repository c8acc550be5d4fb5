package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/operator"
)

// show prints a message as JSON, in the same form as the REST API, or by table.
func (c *cli) show(m proto.Message, table func()) error {
	if c.output != "json" {
		table()
		return nil
	}
	return c.json(protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}, m)
}

// showLine is show for one of many, as JSON on a line of its own.
func (c *cli) showLine(m proto.Message, text func()) error {
	if c.output != "json" {
		text()
		return nil
	}
	return c.json(protojson.MarshalOptions{EmitUnpopulated: true}, m)
}

func (c *cli) json(how protojson.MarshalOptions, m proto.Message) error {
	data, err := how.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, string(data))
	return err
}

// clean makes text that may have come from a machine or a BMC fit for a
// terminal: no control character, so no escape sequence and no line of its own.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// table prints rows under a head, aligned.
func (c *cli) table(head string, rows [][]string) {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	for _, r := range rows {
		for i, cell := range r {
			if r[i] = clean(cell); cell == "" {
				r[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // an error here is an error of the terminal, seen there
}

// facts prints name and value lines, leaving out what is empty.
func (c *cli) facts(pairs ...string) {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", pairs[i], clean(pairs[i+1]))
		}
	}
	_ = w.Flush()
}

func stateWord(s operator.State) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATE_"))
}

func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}

// size writes bytes as a person reads them.
func size(n uint64) string {
	switch {
	case n >= 1<<40:
		return fmt.Sprintf("%.1f TiB", float64(n)/(1<<40))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// known is a quantity as text, and nothing while it is not known.
func known[T comparable](n T, text func(T) string) string {
	var none T
	if n == none {
		return ""
	}
	return text(n)
}

func number(n uint32) string { return fmt.Sprint(n) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
