package session

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/hardware"
)

func newOutbox(t *testing.T) *outbox {
	t.Helper()
	v, err := openVault(t.TempDir(), "boot-1")
	if err != nil {
		t.Fatal(err)
	}
	o, err := openOutbox(v, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestReportsAreReplacedWhole: an agent that dies while it writes must not leave
// half a report, which the next one could not read.
func TestReportsAreReplacedWhole(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(link, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(link, filepath.Join(o.dir, fileOf(1))); err != nil {
		t.Fatal(err)
	}
	o.append(&agent.Report{OrderId: 7})
	if got, err := os.ReadFile(link); err != nil || string(got) != "old" {
		t.Errorf("file was written in place: got %q, want old (%v)", got, err)
	}
	again, err := openOutbox(o.vault, o.log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.next(0); got.GetOrderId() != 7 {
		t.Errorf("after a restart: got %v, want order 7", got)
	}
}

// TestWhatIsNotUTF8IsSentAllTheSame: boards and images choose their own bytes.
func TestWhatIsNotUTF8IsSentAllTheSame(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.append(&agent.Report{Report: &agent.Report_Collection{Collection: &hardware.Collection{
		System: &hardware.System{Serial: "S\xff1"}, Disks: []*hardware.Disk{{Model: "\xc3"}, {Model: "fine"}},
	}}})
	o.append(&agent.Report{Report: &agent.Report_Log{Log: &agent.LogLines{Lines: []string{"fine", "\xe9t\xe9"}}}})
	c := o.next(0).GetCollection()
	got := []string{c.GetSystem().GetSerial()}
	for _, d := range c.GetDisks() {
		got = append(got, d.Model)
	}
	if log := o.next(1); log != nil {
		got = append(got, log.GetLog().Lines...)
	}
	if diff := cmp.Diff(got, []string{"S\uFFFD1", "\uFFFD", "fine", "fine", "\uFFFDt\uFFFD"}); diff != "" {
		t.Errorf("got (-), want (+):\n%s", diff)
	}
}
