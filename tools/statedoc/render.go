package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

const head = `<!-- Made by go run ./tools/statedoc from controller/machine. Do not edit. -->
# A machine's life

State, outcome and reason are three facts. The *state* says where in its life a
machine is, the *outcome* how the work of that state goes (none, running, failed
or cancelled), and the *reason* why it stopped. A failure is no state: a machine
that could not be deployed is *deploying, failed*, with a reason, and accepts what the
table below lists for that case.

The lifecycle engine moves machines (see [ARCHITECTURE.md](../ARCHITECTURE.md)); what it
decides and the picture does not have is refused when it is saved. Besides it, the
reaper fails what is past its deadline, and a boot session that is claimed with another
key breaks its machine.

`

// render writes the whole document.
func render(table []machine.Rule, causes []machine.Cause) []byte {
	var b bytes.Buffer
	b.WriteString(head)
	picture(&b, table)
	states(&b, table)
	passing(&b, table)
	reasons(&b, causes)
	return b.Bytes()
}

// picture draws the moves; those to broken, which come from nearly everywhere,
// are said below it.
func picture(b *bytes.Buffer, table []machine.Rule) {
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> " + string(table[0].State) + "\n")
	var breaking []string
	for _, rule := range table {
		for _, next := range rule.Next {
			if next == machine.Broken {
				breaking = append(breaking, string(rule.State))
				continue
			}
			fmt.Fprintf(b, "    %s --> %s%s\n", rule.State, next, label(rule, next))
		}
	}
	fmt.Fprintf(b, "```\n\nNot drawn: to `%s`, which may follow %s.\n\n", machine.Broken, strings.Join(breaking, ", "))
}

func label(rule machine.Rule, next machine.State) string {
	if rule.CancelTo == next {
		return ": cancelled"
	}
	return ""
}

func states(b *bytes.Buffer, table []machine.Rule) {
	b.WriteString("## States\n\n| state | what it means | accepts | accepts after a failure or a cancel | MAAS calls it | MAAS, failed |\n|---|---|---|---|---|---|\n")
	for _, r := range table {
		row(b, code(r.State), r.Sentence, kinds(r.Accepts), kinds(r.FailedAccepts),
			machine.MAASStatus(r.State, machine.OutcomeNone), machine.MAASStatus(r.State, machine.OutcomeFailed))
	}
	b.WriteString("\nAn operation that is not listed is refused at the door. So is every operation of a\nmachine that nobody has approved, and a second one while one is under way.\n\n")
}

func passing(b *bytes.Buffer, table []machine.Rule) {
	b.WriteString("## States that pass\n\nEach has a deadline. An independent reaper looks for machines past it every few\nseconds, and fails them with the reason named here.\n\n" +
		"| state | at most | reason after that | a cancel |\n|---|---|---|---|\n")
	for _, r := range table {
		if r.Passing {
			row(b, code(r.State), limit(r.Limit), code(r.TimeoutReason), cancel(r))
		}
	}
	b.WriteString("\nA cancelled machine whose disk may have been written already does not go back: it\nstays where it is, cancelled, so that it does not look free.\n\n")
}

func cancel(r machine.Rule) string {
	if r.CancelTo == "" {
		return "refused: " + r.CancelRefused
	}
	return "rests in " + code(r.CancelTo)
}

func reasons(b *bytes.Buffer, causes []machine.Cause) {
	b.WriteString("## Reasons\n\n`ingot machine show` and `ingot operation show` print reason, sentence and next step,\nwith the machine's id in place of ID.\n\n| reason | what is wrong | what to do next |\n|---|---|---|\n")
	for _, c := range causes {
		row(b, code(c.Reason), c.Sentence, c.Next)
	}
}

func row(b *bytes.Buffer, cells ...string) {
	for _, c := range cells {
		b.WriteString("| " + strings.ReplaceAll(strings.ReplaceAll(c, "|", `\|`), "\n", " ") + " ")
	}
	b.WriteString("|\n")
}

func code[T ~string](s T) string { return "`" + string(s) + "`" }

func kinds(list []machine.OperationKind) string {
	if len(list) == 0 {
		return "nothing"
	}
	var words []string
	for _, k := range list {
		words = append(words, string(k))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// limit writes whole minutes below two hours, and whole hours above.
func limit(d time.Duration) string {
	if d < 2*time.Hour {
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
