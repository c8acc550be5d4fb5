package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) operation() *cobra.Command {
	one := func(use, short string, f func(context.Context, *grpc.ClientConn, string) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: exactly("an operation"), RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(func(conn *grpc.ClientConn) error { return f(cmd.Context(), conn, args[0]) })
		}}
	}
	return group("operation", "Operations: what was asked of machines and how far it is",
		c.operationList(),
		one("show OPERATION", "Show an operation and its steps", func(ctx context.Context, conn *grpc.ClientConn, id string) error {
			op, err := operator.NewOperationServiceClient(conn).OperationGet(ctx, &operator.OperationGetRequest{Operation: id})
			if err != nil {
				return err
			}
			return c.show(op, func() { c.operationFacts(op) })
		}),
		one("wait OPERATION", "Wait for an operation, with progress", func(ctx context.Context, conn *grpc.ClientConn, id string) error {
			return c.wait(ctx, conn, id)
		}),
		one("cancel OPERATION", "Cancel an operation", func(ctx context.Context, conn *grpc.ClientConn, id string) error {
			op, err := operator.NewOperationServiceClient(conn).OperationCancel(ctx, &operator.OperationCancelRequest{Operation: id})
			if err != nil {
				return err
			}
			return c.show(op, func() { fmt.Fprintf(c.out, "cancel of %s asked\n", op.GetId()) })
		}))
}

func (c *cli) operationList() *cobra.Command {
	req := &operator.OperationListRequest{}
	cmd := &cobra.Command{Use: "list", Short: "List operations, newest first", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list := &operator.OperationListResponse{}
			if err := pages(func(token string) (string, error) {
				req.PageToken = token
				page, err := operator.NewOperationServiceClient(conn).OperationList(cmd.Context(), req)
				list.Operations = append(list.Operations, page.GetOperations()...)
				return page.GetNextPageToken(), err
			}); err != nil {
				return err
			}
			return c.show(list, func() {
				var rows [][]string
				for _, op := range list.GetOperations() {
					rows = append(rows, []string{op.GetId(), op.GetMachineId(), op.GetKind(), op.GetState(), op.GetPhase(), op.GetReason(), clock(op.GetCreatedAt())})
				}
				c.table("ID MACHINE KIND STATE PHASE REASON ASKED", rows)
			})
		})
	}}
	cmd.Flags().StringVar(&req.Machine, "machine", "", "of this machine only")
	return cmd
}

func (c *cli) operationFacts(op *operator.Operation) {
	c.facts("operation", op.GetId(), "machine", op.GetMachineId(), "kind", op.GetKind(), "state", op.GetState(), "phase", op.GetPhase(),
		"reason", op.GetReason(), "why", op.GetReasonText(), "next step", op.GetNextStep(), "asked", clock(op.GetCreatedAt()), "ended", clock(op.GetFinishedAt()))
	c.facts(written(op.GetDeployment())...)
	var rows [][]string
	for _, s := range op.GetSteps() {
		rows = append(rows, []string{s.GetName(), s.GetState(), clock(s.GetStartedAt()), clock(s.GetFinishedAt()), s.GetDetail()})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("STEP STATE BEGUN ENDED DETAIL", rows)
	}
}

// written are the facts of what a deploy wrote, by which it is judged.
func written(d *operator.Deployment) []string {
	if d == nil {
		return nil
	}
	fetched := size(d.GetBytesFetched())
	if d.GetBytesFromPeers() > 0 {
		fetched += ", of that from other machines " + size(d.GetBytesFromPeers())
	}
	facts := []string{"wrote", imageLabelOf(d), "fetched", fetched, "written", size(d.GetBytesWritten())}
	if d.GetBytesKept() > 0 {
		facts = append(facts, "kept", size(d.GetBytesKept())+", which the disk held already")
	}
	for _, t := range []struct {
		name  string
		after time.Duration
	}{{"flushed after", d.GetFlushedAfter().AsDuration()}, {"verified after", d.GetVerifiedAfter().AsDuration()}} {
		if t.after > 0 {
			facts = append(facts, t.name, seconds(t.after))
		}
	}
	return facts
}

func imageLabelOf(d *operator.Deployment) string {
	return d.GetImageName() + " " + d.GetImageDigest() + " to " + d.GetDiskSerial()
}

// asked tells of a new operation, and waits for it when asked to.
func (c *cli) asked(ctx context.Context, conn *grpc.ClientConn, op *operator.Operation, wait bool) error {
	if op.GetState() == "planned" {
		return c.show(op, func() {
			fmt.Fprintf(c.out, "would %s %s, erasing:\n", op.GetKind(), op.GetMachineId())
			var rows [][]string
			for _, d := range op.GetDisks() {
				rows = append(rows, []string{d.GetName(), d.GetSerial(), d.GetKind(), size(d.GetSizeBytes()), d.GetModel()})
			}
			c.table("DISK SERIAL KIND SIZE MODEL", rows)
		})
	}
	if wait {
		return c.wait(ctx, conn, op.GetId())
	}
	return c.show(op, func() {
		fmt.Fprintf(c.out, "%s of %s asked; follow it: ingot operation wait %s\n", op.GetKind(), op.GetMachineId(), op.GetId())
	})
}

// wait watches an operation to its end; one that did not succeed is an error.
func (c *cli) wait(ctx context.Context, conn *grpc.ClientConn, id string) error {
	line := c.progressLine()
	var last *operator.Operation
	err := c.watched(ctx, func() (got bool, err error) {
		defer line.end()
		watch, err := operator.NewOperationServiceClient(conn).OperationWatch(ctx, &operator.OperationGetRequest{Operation: id})
		if err != nil {
			return false, err
		}
		for {
			op, err := watch.Recv()
			if errors.Is(err, io.EOF) {
				return got, nil
			}
			if err != nil {
				return got, err
			}
			got, last = true, op
			line.say(clean(progressText(op)))
		}
	})
	if ctx.Err() != nil {
		return fmt.Errorf("not waiting any more; the operation goes on: ingot operation wait %s", id)
	}
	if err != nil {
		return err
	}
	if last == nil {
		return fmt.Errorf("operation %s: the controller ended the watch without a word", id)
	}
	if err := c.show(last, func() {
		fmt.Fprintf(c.out, "%s of %s %s after %s\n", last.GetKind(), last.GetMachineId(), last.GetState(), seconds(last.GetFinishedAt().AsTime().Sub(last.GetCreatedAt().AsTime())))
	}); err != nil {
		return err
	}
	if last.GetState() != "succeeded" {
		return errors.New(ending(last))
	}
	return nil
}

// ending says why an operation did not succeed, and what to do.
func ending(op *operator.Operation) string {
	text := op.GetState()
	if op.GetReason() != "" {
		text = op.GetReason()
	}
	if op.GetReasonText() != "" {
		text += "\n  " + clean(op.GetReasonText())
	}
	if op.GetNextStep() != "" {
		text += "\n  next: " + op.GetNextStep()
	}
	return text
}

func progressText(op *operator.Operation) string {
	text := op.GetKind() + " " + op.GetMachineId() + ": " + op.GetState()
	if op.GetPhase() != "" {
		text += ", " + op.GetPhase()
	}
	p := op.GetProgress()
	if p.GetTotalBytes() == 0 {
		return text
	}
	const width = 24
	done := int(width * min(p.GetDoneBytes(), p.GetTotalBytes()) / p.GetTotalBytes())
	return fmt.Sprintf("%s [%s%s] %s of %s, %s/s", text, strings.Repeat("=", done), strings.Repeat(" ", width-done),
		size(p.GetDoneBytes()), size(p.GetTotalBytes()), size(p.GetBytesPerSecond()))
}

// progressLine is one line that is written over on a terminal, and a line for
// each change elsewhere. It goes to standard error: output stays clean.
type progressLine struct {
	c        *cli
	terminal bool
	last     string
}

func (c *cli) progressLine() *progressLine {
	f, ok := c.errOut.(*os.File)
	return &progressLine{c: c, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progressLine) say(text string) {
	if text == p.last {
		return
	}
	p.last = text
	if p.terminal {
		fmt.Fprintf(p.c.errOut, "\r\033[K%s", text)
		return
	}
	if !strings.Contains(text, "[") {
		fmt.Fprintln(p.c.errOut, text)
	}
}

func (p *progressLine) end() {
	if p.terminal && p.last != "" {
		fmt.Fprintln(p.c.errOut)
	}
	p.last = ""
}
