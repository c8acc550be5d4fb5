package session

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/agent"
)

const outboxDir = "outbox"

// Limits of an outbox, in encoded bytes. Results have none: each order makes
// one, and orders come only from a controller that is there.
const (
	maxLogBytes    = 1 << 20
	maxReportBytes = 32 << 20
)

// outbox holds the reports that the controller has not acknowledged, in memory
// and, each as a file, in RAM outside of the process. Sequences have no gap:
// what is dropped never had one.
type outbox struct {
	vault   vault
	dir     string
	log     *slog.Logger
	now     func() time.Time
	changed chan struct{} // holds a token when there is something new

	mu       sync.Mutex // guards the fields below
	waiting  []parcel   // ascending
	last     uint64     // sequence given out last
	stored   uint64     // sequence acknowledged last
	logBytes int
	allBytes int
	dropped  int // log lines since the last report of log lines
}

type parcel struct {
	sequence uint64
	data     []byte // encoded Report
	log      bool
}

// openOutbox reads what an earlier process of this boot left.
func openOutbox(v vault, log *slog.Logger, now func() time.Time) (*outbox, error) {
	o := &outbox{vault: v, dir: filepath.Join(v.dir, outboxDir), log: log, now: now, changed: make(chan struct{}, 1)}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	files, err := os.ReadDir(o.dir)
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	if data, err := os.ReadFile(filepath.Join(o.dir, "acknowledged")); err == nil {
		o.last, _ = strconv.ParseUint(string(data), 10, 64)
	}
	o.stored = o.last
	for _, f := range files { // sorted by name, and the names have one width
		sequence, err := strconv.ParseUint(f.Name(), 10, 64)
		if err != nil || sequence <= o.stored {
			continue
		}
		data, err := os.ReadFile(filepath.Join(o.dir, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("open outbox: %w", err)
		}
		var r agent.Report
		if err := proto.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("open outbox: report %d: %w", sequence, err)
		}
		o.push(parcel{sequence, data, r.GetLog() != nil})
	}
	return o, nil
}

func (o *outbox) push(p parcel) {
	o.waiting = append(o.waiting, p)
	o.last = p.sequence
	o.allBytes += len(p.data)
	if p.log {
		o.logBytes += len(p.data)
	}
}

func fileOf(sequence uint64) string { return fmt.Sprintf("%020d", sequence) }

// append gives r its sequence and time and keeps it until it is acknowledged.
// It returns 0 when r was dropped: log lines when there are too many, and other
// reports, except results, when memory is at stake.
func (o *outbox) append(r *agent.Report) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := r.GetLog()
	count := len(lines.GetLines())
	if lines != nil && o.dropped > 0 {
		lines.Lines = append([]string{fmt.Sprintf("[%d lines of the agent's log were dropped here]", o.dropped)}, lines.Lines...)
	}
	r.Sequence, r.At = o.last+1, timestamppb.New(o.now())
	data, err := encode(r)
	if err != nil { // a defect, and no reason to lose the rest
		o.log.Error("report dropped", "err", err)
		return 0
	}
	switch {
	case lines != nil && o.logBytes+len(data) > maxLogBytes:
		o.dropped += count
		return 0
	case r.GetResult() == nil && o.allBytes+len(data) > maxReportBytes:
		o.log.Error("report dropped: the outbox is full", "bytes", len(data))
		return 0
	}
	if lines != nil {
		o.dropped = 0
	}
	if err := o.vault.write(filepath.Join(outboxDir, fileOf(r.Sequence)), data); err != nil {
		// Still in memory, and so only lost if the process dies too.
		o.log.Error("report not saved", "err", err)
	}
	o.push(parcel{r.Sequence, data, lines != nil})
	o.signal()
	return r.Sequence
}

func (o *outbox) signal() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// acknowledge forgets every report up to and including sequence.
func (o *outbox) acknowledge(sequence uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sequence <= o.stored {
		return
	}
	o.stored = sequence
	if sequence > o.last {
		// The controller has more of this boot than we remember: never use a
		// number twice.
		o.last = sequence
	}
	n := 0
	for ; n < len(o.waiting) && o.waiting[n].sequence <= sequence; n++ {
		p := o.waiting[n]
		o.allBytes -= len(p.data)
		if p.log {
			o.logBytes -= len(p.data)
		}
	}
	// First the number, so that a crash here does not let old reports rise again.
	if err := o.vault.write(filepath.Join(outboxDir, "acknowledged"), strconv.AppendUint(nil, sequence, 10)); err != nil {
		o.log.Error("acknowledgement not saved", "err", err)
	}
	for _, p := range o.waiting[:n] {
		if err := os.Remove(filepath.Join(o.dir, fileOf(p.sequence))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.log.Error("report not removed", "err", err)
		}
	}
	o.waiting = slices.Delete(o.waiting, 0, n)
}

// next gives the first report after sequence, nil when there is none.
func (o *outbox) next(sequence uint64) *agent.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	i, found := slices.BinarySearchFunc(o.waiting, sequence, func(p parcel, s uint64) int {
		if p.sequence <= s {
			return -1
		}
		return 1
	})
	_ = found // never: the comparison has no zero
	if i == len(o.waiting) {
		return nil
	}
	r := &agent.Report{}
	if err := proto.Unmarshal(o.waiting[i].data, r); err != nil {
		panic("outbox: a report that was encoded cannot be decoded: " + err.Error())
	}
	return r
}

// holds tells whether the report is still waiting for its acknowledgement.
func (o *outbox) holds(sequence uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.waiting, func(p parcel) bool { return p.sequence == sequence })
}

// resultOf finds the waiting result of an order, 0 when there is none.
func (o *outbox) resultOf(orderID int64) uint64 {
	for sequence := uint64(0); ; {
		r := o.next(sequence)
		if r == nil {
			return 0
		}
		if r.OrderId == orderID && r.GetResult() != nil {
			return r.Sequence
		}
		sequence = r.Sequence
	}
}

func (o *outbox) lastSequence() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting) == 0
}
