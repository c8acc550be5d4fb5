package relay

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ring keeps the frames that came last, as many as fit. It is a log without an
// end of which the last len(memory) bytes exist: a frame begins at a place in
// that log, and is gone once the log has grown past it. So nothing is ever
// moved, freed or waited for. The memory is mapped, outside of Go's heap, and
// taken from the machine only as it is first written to.
type ring struct {
	mu      sync.RWMutex // guards the fields below
	memory  []byte       // nil once released
	written int64        // length of the log
	begins  map[int]int64
	sizes   map[int]int
	order   []int // frames in the log, oldest first
}

func newRing(size int64) (*ring, error) {
	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for the ring: %w", size, err)
	}
	return &ring{memory: memory, begins: map[int]int64{}, sizes: map[int]int{}}, nil
}

// put appends a frame, over the oldest ones. One that is there already, or that
// is larger than the ring, is passed over.
func (r *ring) put(frame int, packed []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.begins[frame]; there || len(packed) > len(r.memory) || len(packed) == 0 {
		return
	}
	r.begins[frame], r.sizes[frame] = r.written, len(packed)
	r.order = append(r.order, frame)
	for len(packed) > 0 {
		n := copy(r.memory[r.written%int64(len(r.memory)):], packed)
		packed = packed[n:]
		r.written += int64(n)
	}
	for len(r.order) > 0 && r.begins[r.order[0]] < r.written-int64(len(r.memory)) {
		delete(r.begins, r.order[0])
		delete(r.sizes, r.order[0])
		r.order = r.order[1:]
	}
}

func (r *ring) has(frame int) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, there := r.begins[frame]
	return there
}

// read copies bytes of a frame from offset on, as many as it has and p takes;
// 0 when the frame is gone.
func (r *ring) read(frame, offset int, p []byte) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	begin, there := r.begins[frame]
	if !there {
		return 0
	}
	p = p[:min(len(p), r.sizes[frame]-offset)]
	done := 0
	for done < len(p) {
		at := (begin + int64(offset+done)) % int64(len(r.memory))
		done += copy(p[done:], r.memory[at:])
	}
	return done
}

// release gives the memory back; all frames are gone then.
func (r *ring) release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory == nil {
		return nil
	}
	err := unix.Munmap(r.memory)
	r.memory, r.order = nil, nil
	clear(r.begins)
	clear(r.sizes)
	if err != nil {
		return fmt.Errorf("unmap the ring: %w", err)
	}
	return nil
}
