package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// DefaultRingBytes is the ring of a machine with enough memory.
const DefaultRingBytes = 64 << 20

// maxKept bounds what Keep holds, in bytes.
const maxKept = 16 << 20

// minKey is the shortest key that is accepted, in bytes.
const minKey = 16

// Options for NewNode. MachineID and Key are needed; all else has a default.
type Options struct {
	// MachineID is this machine's, as its peers and its certificate name it.
	MachineID string
	// Key is the image's relay key, which only its members know; at least 16
	// bytes.
	Key []byte
	// TLS for private images; nil means plain HTTP.
	TLS *TLS
	// RingBytes bounds the memory for frames kept for peers (default 64 MiB).
	RingBytes int64
	// ServeRate bounds what all peers together get, in bytes a second; 0: no
	// bound.
	ServeRate float64
	// Stall is how long a peer may be silent (default 1 s), and Patience how
	// long, give or take a half, it may be waited for in all while neither bytes
	// nor its own position earn it more (default 5 s).
	Stall, Patience time.Duration
	// Dial makes connections to peers; nil means TCP. Tests shape links here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger     // nil: none
	Now  func() time.Time // nil: time.Now
}

// Node is one machine's part in the relay of one image. All methods may be
// called in parallel.
type Node struct {
	m      *manifest.Manifest
	digest manifest.Digest
	floor  fetch.Source
	opts   Options
	data   []int // frames that are no holes, ascending
	ring   *ring
	meter  *meter
	serves serves

	closing chan struct{} // closed when peers are to be sent away
	changed chan struct{} // holds a token when State has news

	fromFloor, fromPeers, toPeers atomic.Uint64

	mu       sync.Mutex // guards the fields below
	up       *upstream  // nil: the floor
	turn     uint64     // counts changes of up
	banned   map[string]bool
	failed   string  // machine id, since State was last asked
	failure  Failure // its kind
	ahead    uint64  // position that the upstream told last
	progress progress
	kept     map[int][]byte // frames that stay
	keptSize int64
	closed   bool
}

// NewNode makes a machine's part in the relay of the image m, whose digest the
// caller has checked; floor delivers it in any case. The caller closes it.
func NewNode(m *manifest.Manifest, digest manifest.Digest, floor fetch.Source, opts Options) (*Node, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	ring, err := newRing(opts.RingBytes)
	if err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	n := &Node{m: m, digest: digest, floor: floor, opts: opts, ring: ring, meter: newMeter(opts.Now),
		closing: make(chan struct{}), changed: make(chan struct{}, 1), banned: map[string]bool{}, kept: map[int][]byte{}}
	for i := range m.Frames {
		if !m.Frames[i].Zero {
			n.data = append(n.data, i)
		}
	}
	n.progress = newProgress(m, opts.Now)
	n.serves.limit = rate.NewLimiter(rate.Inf, pieceBytes)
	if opts.ServeRate > 0 {
		piece := min(max(int(opts.ServeRate/16), leastPiece), pieceBytes)
		n.serves.limit = rate.NewLimiter(rate.Limit(opts.ServeRate), piece)
	}
	return n, nil
}

// check refuses what cannot work and fills in the defaults.
func (o *Options) check() error {
	switch {
	case !validID(o.MachineID):
		return fmt.Errorf("machine id %.140q is none", o.MachineID)
	case len(o.Key) < minKey:
		return fmt.Errorf("the key has %d bytes, fewer than %d", len(o.Key), minKey)
	case o.TLS != nil && (o.TLS.Certificate == nil || o.TLS.Roots == nil):
		return errors.New("TLS needs a certificate and roots")
	}
	if o.RingBytes <= 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.Stall <= 0 {
		o.Stall = time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 2 * o.Stall}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Range is fetch.Source's: length bytes from offset on, of which those that
// belong to no frame with data are zeros and not what the packed file holds.
// They come from the upstream while there is a good one, else from the floor,
// whose errors are the only ones.
func (n *Node) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length <= 0 || length > int64(n.m.PackedSizeBytes)-offset {
		return nil, &fetch.Error{Source: "relay", Offset: offset, Length: length, Permanent: true, Err: errors.New("no such range")}
	}
	n.meter.count(1, 0, 0)
	r := &ranged{n: n, ctx: ctx, at: offset, end: offset + length, frames: n.framesIn(offset, offset+length)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.progress.begin(r)
	return r, nil
}

// Suspect is fetch.Suspecter's: the frames in the range hashed wrong. If a peer
// gave any of them it is left, is not asked again in this deploy, and is told
// of in State; the floor is where they come from next.
func (n *Node) Suspect(offset, length int64) {
	n.mu.Lock()
	culprit := ""
	for _, i := range n.framesIn(offset, offset+length) {
		if from := n.progress.suspect(i); from != "" {
			culprit = from
		}
	}
	if culprit != "" {
		n.banned[culprit] = true
		n.leave(culprit, FailureGarbage)
	}
	n.mu.Unlock()
	if culprit == "" {
		fetch.Suspect(n.floor, offset, length)
		return
	}
	n.opts.Log.Warn("peer sent wrong bytes and is left", "peer", culprit, "offset", offset)
}

// Put takes a frame whose packed hash was found right, and copies it for peers.
// It does nothing once the node is closed.
func (n *Node) Put(frame int, packed []byte) {
	if frame < 0 || frame >= len(n.m.Frames) || n.m.Frames[frame].Zero || len(packed) != int(n.m.Frames[frame].PackedSize) {
		return
	}
	if n.isKept(frame) == nil {
		n.ring.put(frame, packed)
	}
	n.mu.Lock()
	n.progress.put(frame)
	n.mu.Unlock()
	n.serves.wake()
}

// Keep takes a frame whose packed hash was found right, and holds it for this
// machine and its peers until Close, whatever the ring does: for what is read
// out of the order of the file. It is passed over when there are too many
// (maxKept). packed belongs to the node now.
func (n *Node) Keep(frame int, packed []byte) {
	if frame < 0 || frame >= len(n.m.Frames) || n.m.Frames[frame].Zero || len(packed) != int(n.m.Frames[frame].PackedSize) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.kept[frame] != nil || n.keptSize+int64(len(packed)) > maxKept {
		return
	}
	n.kept[frame] = packed
	n.keptSize += int64(len(packed))
}

// isKept gives a frame that stays; nil: it does not.
func (n *Node) isKept(frame int) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kept[frame]
}

// Finish says that no frame is needed any more; peers are served from the ring
// until Close.
func (n *Node) Finish() {
	n.mu.Lock()
	n.progress.done = true
	n.change(nil)
	n.mu.Unlock()
	n.serves.wake()
	n.news()
}

// Close sends peers away, politely until ctx ends, and gives the memory back.
// Range goes on working, from the floor.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.kept = nil
	close(n.closing)
	n.change(nil)
	n.mu.Unlock()
	err := n.serves.close(ctx)
	if freed := n.ring.release(); freed != nil {
		err = errors.Join(err, freed)
	}
	if err != nil {
		return fmt.Errorf("close relay: %w", err)
	}
	return nil
}

// Handler is what peers read. It has to be served over TLS if Options.TLS is
// set; Serve does that.
func (n *Node) Handler() http.Handler { return http.HandlerFunc(n.serveHTTP) }

// framesIn gives the frames with data that have a byte in [from, to).
func (n *Node) framesIn(from, to int64) []int {
	frame := func(k int) *manifest.Frame { return &n.m.Frames[n.data[k]] }
	first := sort.Search(len(n.data), func(k int) bool { return int64(frame(k).Offset)+int64(frame(k).PackedSize) > from })
	last := sort.Search(len(n.data), func(k int) bool { return int64(frame(k).Offset) >= to })
	return n.data[first:max(first, last)]
}
