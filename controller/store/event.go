package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Event is one line of a machine's history, as stored.
type Event struct {
	MachineID machine.ID
	Sequence  uint64 // from 1, without gap within the machine
	At        time.Time
	Kind      string
	Text      string
	Detail    map[string]string
	// Token resumes a watch after this event.
	Token string

	pruned uint64 // how far other events were pruned when this was read
}

// Bounds of one event: what is longer is cut.
const (
	eventText    = 4 << 10
	eventDetails = 32
)

// EventAppend adds lines to a machine's history.
func (s *Store) EventAppend(ctx context.Context, id machine.ID, events ...machine.Event) error {
	err := s.tx(ctx, "record events of machine "+string(id), func(tx pgx.Tx) error {
		return s.eventAdd(ctx, tx, id, events...)
	})
	if err == nil {
		s.changed()
	}
	return err
}

// eventAdd gives the events their sequence under the machine's row lock and
// stores them.
func (s *Store) eventAdd(ctx context.Context, tx pgx.Tx, id machine.ID, events ...machine.Event) error {
	if len(events) == 0 {
		return nil
	}
	var last, xid uint64
	err := tx.QueryRow(ctx, s.sql.Get("EventSequence"), id, len(events)).Scan(&last, &xid)
	if err == pgx.ErrNoRows {
		return noMachine(string(id))
	}
	if err != nil {
		return fmt.Errorf("number events: %w", err)
	}
	batch := &pgx.Batch{}
	for i, e := range events {
		detail, err := document(bound(e.Detail))
		if err != nil {
			return err
		}
		batch.Queue(s.sql.Get("EventInsert"), id, last+uint64(i)+1, e.Kind, cut(e.Text, eventText), detail, xid)
	}
	return tx.SendBatch(ctx, batch).Close()
}

func bound(detail map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range detail {
		if len(out) == eventDetails {
			break
		}
		out[cut(k, 100)] = cut(v, eventText)
	}
	return out
}

// EventMachineFind resolves whose history is meant: a machine's, by id, hostname
// or MAC address, or that of one that was deleted, by its id alone.
func (s *Store) EventMachineFind(ctx context.Context, word string) (machine.ID, error) {
	id, err := s.machineFind(ctx, word)
	if !fault.Is(err, fault.NotFound) {
		return id, err
	}
	id = machine.ID(cut(strings.ToLower(word), 80))
	var any bool
	if err := s.pool.QueryRow(ctx, s.sql.Get("EventAny"), id).Scan(&any); err != nil {
		return "", wrap(err, "look for events of machine %q", word)
	}
	if !any {
		return "", fault.New(fault.NotFound, "no machine %q: ingot machine list shows all; the history of one that was deleted is found by its id", cut(word, 80))
	}
	return id, nil
}

// EventList lists a machine's events after a sequence (0: from the oldest that is
// kept), oldest first. fault.Stale: what follows the sequence was pruned.
func (s *Store) EventList(ctx context.Context, id machine.ID, after uint64, size int) ([]Event, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("EventList"), scanEvent, id, after, pageSize(size))
	if err == nil && after > 0 && len(list) > 0 && list[0].Sequence != after+1 {
		return nil, errForgotten()
	}
	return list, wrap(err, "list events of machine %s", id)
}

// EventAfter reads on from a resume token: "0" begins with the oldest event, ""
// with what happens from now on (across machines it may begin with a few that
// have just happened). An empty id means all machines. The token that
// comes back is where to go on, also when nothing came; one that a watch of a
// single machine gave serves only that watch. No event is ever missed or comes
// twice, and those of one machine come in their order. fault.Stale: events after
// the token were pruned, so that going on would miss some.
//
// Across machines, events show once no older transaction of the whole PostgreSQL
// server is under way, other databases' included.
func (s *Store) EventAfter(ctx context.Context, token string, id machine.ID, limit int) ([]Event, string, error) {
	at, err := parseToken(token)
	if err != nil {
		return nil, "", err
	}
	alone := at.xid == 0 && at.machine != ""
	switch {
	case alone && at.machine != string(id):
		return nil, "", fault.New(fault.Invalid, "the resume token is of a watch of machine %s", at.machine)
	case token == "":
		token, err = s.eventNow(ctx, id)
		return nil, token, err
	case id != "" && at.xid == 0:
		return s.eventAfterOf(ctx, id, at, limit)
	}
	list, err := collect(ctx, s.pool, s.sql.Get("EventAfter"), scanEvent, at.xid, at.machine, at.sequence, id, pageSize(limit))
	if err != nil {
		return nil, "", wrap(err, "read events")
	}
	if len(list) > 0 {
		token = list[len(list)-1].Token
	}
	return list, token, s.eventsThere(ctx, at, list)
}

// eventsThere refuses a position when events after it were pruned since. One that
// was read after the last pruning is good: it has met what was left.
func (s *Store) eventsThere(ctx context.Context, at position, read []Event) error {
	var pruned uint64
	if at.xid == 0 {
		return nil // from the oldest on
	}
	if len(read) > 0 {
		pruned = read[0].pruned
	} else if err := s.pool.QueryRow(ctx, s.sql.Get("PruneEventXid")).Scan(&pruned); err != nil {
		return wrap(err, "look what was pruned")
	}
	if at.xid <= pruned && at.pruned != pruned {
		return errForgotten()
	}
	return nil
}

// eventAfterOf reads on in one machine's history. Its row lock orders the
// writers, so what can be seen has no gap and there is nothing to wait for.
func (s *Store) eventAfterOf(ctx context.Context, id machine.ID, at position, limit int) ([]Event, string, error) {
	after := at.sequence
	list, err := s.EventList(ctx, id, after, limit)
	if err == nil && at.machine != "" && len(list) > 0 && list[0].Sequence != after+1 {
		err = errForgotten()
	}
	for i := range list {
		after = list[i].Sequence
		list[i].Token = position{machine: string(id), sequence: after}.token()
	}
	return list, position{machine: string(id), sequence: after}.token(), err
}

// eventNow is the token of the present.
func (s *Store) eventNow(ctx context.Context, id machine.ID) (string, error) {
	var at position
	if id == "" {
		err := s.pool.QueryRow(ctx, s.sql.Get("EventNow")).Scan(&at.xid)
		return at.token(), wrap(err, "begin a watch of events")
	}
	at.machine = string(id)
	err := s.pool.QueryRow(ctx, s.sql.Get("EventNowOf"), id).Scan(&at.sequence)
	if err == pgx.ErrNoRows {
		return "", noMachine(string(id))
	}
	return at.token(), wrap(err, "begin a watch of machine %s", id)
}

func scanEvent(r pgx.CollectableRow) (Event, error) {
	var e Event
	var detail []byte
	var xid uint64
	if err := r.Scan(&e.MachineID, &e.Sequence, &e.At, &e.Kind, &e.Text, &detail, &xid, &e.pruned); err != nil {
		return e, err
	}
	e.At = e.At.UTC()
	e.Token = position{xid, string(e.MachineID), e.Sequence, e.pruned}.token()
	return e, json.Unmarshal(detail, &e.Detail)
}

// position is a place in the history of all machines; without an xid, in that of
// one machine.
type position struct {
	xid      uint64
	machine  string
	sequence uint64
	pruned   uint64 // how far events were pruned when it was read
}

func (p position) token() string {
	text := fmt.Sprintf("%d.%s.%d.%d", p.xid, p.machine, p.sequence, p.pruned)
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parseToken(token string) (position, error) {
	if token == "0" || token == "" {
		return position{}, nil
	}
	wrong := fault.New(fault.Invalid, "%q is no resume token of an event", cut(token, 80))
	text, err := base64.RawURLEncoding.DecodeString(token)
	parts := strings.Split(string(text), ".")
	if err != nil || len(text) > 100 || len(parts) != 3 && len(parts) != 4 {
		return position{}, wrong
	}
	xid, err := strconv.ParseUint(parts[0], 10, 63)
	if err != nil {
		return position{}, wrong
	}
	sequence, err := strconv.ParseUint(parts[2], 10, 63)
	if err != nil || len(parts[1]) > 6 || cut(parts[1], 6) != parts[1] {
		return position{}, wrong
	}
	at := position{xid: xid, machine: parts[1], sequence: sequence}
	if len(parts) == 4 { // tokens of the first release have three
		if at.pruned, err = strconv.ParseUint(parts[3], 10, 63); err != nil {
			return position{}, wrong
		}
	}
	return at, nil
}
