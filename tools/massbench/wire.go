package main

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/imaging/relay"
)

// task is the first line that a machine reads.
type task struct {
	ID       string
	Manifest string // file
	URL      string // of the frames
	Target   string // file that stands for the disk
	Host     string // where it serves its peers
	Key      []byte
	Ring     int64
	Run      int64 // bytes that one request asks for
	Relay    bool  // else it reads from URL alone
	Tells    time.Duration
	Link     float64 // bytes a second; 0: the link is shaped elsewhere
}

// word is what a machine is told after that.
type word struct {
	Go       bool
	Upstream *relay.Peer
	Finish   bool // check the content and end
}

// tale is what a machine tells.
type tale struct {
	Ready   bool
	URL     string // where it serves
	State   *relay.State
	Flushed bool
	Ended   bool   // the writer did
	Error   string // of the writer
	Checked bool   // the content is what the manifest says
}

// serving is the first line that the server reads.
type serving struct {
	Store string
	Host  string
	Link  float64
	Paths []string // to sign
}

// served is what the server tells at its begin, and, when its input ends, at its
// end.
type served struct {
	URLs  []string
	Bytes int64
}

// lines writes JSON, one object a line, from many goroutines.
type lines struct {
	mu sync.Mutex
	w  *json.Encoder
}

func newLines(w io.Writer) *lines { return &lines{w: json.NewEncoder(w)} }

func (l *lines) write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Encode(v)
}

// scanLines makes a reader of lines as long as these get.
func scanLines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return s
}
