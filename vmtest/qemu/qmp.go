package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Event is an asynchronous message of QEMU, such as SHUTDOWN or RESET.
type Event struct {
	Name string         `json:"event"`
	Data map[string]any `json:"data"`
	Time time.Time      `json:"-"`
}

// qmp speaks the QEMU Machine Protocol (docs/interop/qmp-spec) on one stream.
type qmp struct {
	conn    net.Conn
	onEvent func(Event) // called by the reader, in order
	done    chan struct{}

	mu      sync.Mutex // guards what follows
	nextID  int
	waiting map[int]chan answer
}

type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// maxQMPLine bounds what QEMU may send at once.
const maxQMPLine = 16 << 20

var errQMPGone = errors.New("QEMU's control connection has ended")

// newQMP reads until conn ends; close conn to stop it.
func newQMP(conn net.Conn, onEvent func(Event)) *qmp {
	q := &qmp{conn: conn, onEvent: onEvent, done: make(chan struct{}), waiting: map[int]chan answer{}}
	go q.read()
	return q
}

func (q *qmp) read() {
	defer close(q.done)
	sc := bufio.NewScanner(q.conn)
	sc.Buffer(make([]byte, 64<<10), maxQMPLine)
	for sc.Scan() {
		var m struct {
			ID        *int `json:"id"`
			Timestamp struct {
				Seconds int64 `json:"seconds"`
				Micros  int64 `json:"microseconds"`
			} `json:"timestamp"`
			Event
			answer
		}
		if json.Unmarshal(sc.Bytes(), &m) != nil {
			continue
		}
		switch {
		case m.Name != "":
			m.Event.Time = time.Unix(m.Timestamp.Seconds, m.Timestamp.Micros*1000)
			q.onEvent(m.Event)
		case m.ID != nil:
			q.mu.Lock()
			ch := q.waiting[*m.ID]
			delete(q.waiting, *m.ID)
			q.mu.Unlock()
			if ch != nil {
				ch <- m.answer
			}
		}
	}
}

// run executes a command and returns its result.
func (q *qmp) run(ctx context.Context, command string, args any) (json.RawMessage, error) {
	ch := make(chan answer, 1)
	q.mu.Lock()
	q.nextID++
	id := q.nextID
	q.waiting[id] = ch
	req := map[string]any{"execute": command, "id": id}
	if args != nil {
		req["arguments"] = args
	}
	b, err := json.Marshal(req)
	if err == nil {
		_, err = q.conn.Write(append(b, '\n'))
	}
	q.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case a := <-ch:
		if a.Error != nil {
			return nil, fmt.Errorf("QMP %s: %s: %s", command, a.Error.Class, a.Error.Desc)
		}
		return a.Return, nil
	case <-q.done:
		return nil, fmt.Errorf("QMP %s: %w", command, errQMPGone)
	case <-ctx.Done():
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
		return nil, fmt.Errorf("QMP %s: %w", command, ctx.Err())
	}
}
