package writer

import (
	"hash/maphash"
	"sync"
)

const (
	// granule is what old and new content of a frame are compared by.
	granule = 4 << 10
	// mergeGap is how many equal bytes between two differing runs are written
	// along, in place of one write more; maxPieces is how many writes are made
	// of one frame before one of everything is quicker.
	mergeGap  = 16 << 10
	maxPieces = 8
)

// granules remembers by hashes what the target holds where frames differ, from
// the check of a frame to its write. Whoever filled the disk may want it to look
// like the image where it is not: the hash has a seed that he cannot know, and
// 64 bits.
type granules struct {
	seed maphash.Seed
	mu   sync.Mutex
	of   map[int][][]uint64 // by frame, then by member; nil for one that is unknown
}

func (g *granules) put(frame int, sums [][]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of[frame] = sums
}

// take gives what put has stored, once; nil if nothing.
func (g *granules) take(frame int) [][]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	sums := g.of[frame]
	delete(g.of, frame)
	return sums
}

func (g *granules) sums(content []byte) []uint64 {
	sums := make([]uint64, 0, (len(content)+granule-1)/granule)
	for at := 0; at < len(content); at += granule {
		sums = append(sums, maphash.Bytes(g.seed, content[at:min(at+granule, len(content))]))
	}
	return sums
}

// span is content[from:to].
type span struct{ from, to int }

// pieces gives the runs of a frame that have to be written where old was, in
// order and never more than maxPieces; all of it where old is nil.
func pieces(size int, old, now []uint64) []span {
	if old == nil {
		return []span{{0, size}}
	}
	for gap := mergeGap; ; gap *= 2 {
		if spans := differing(size, gap, old, now); len(spans) <= maxPieces {
			return spans
		}
	}
}

func differing(size, gap int, old, now []uint64) []span {
	var spans []span
	for i := range now {
		if old[i] == now[i] {
			continue
		}
		from, to := i*granule, min((i+1)*granule, size)
		if n := len(spans); n > 0 && from-spans[n-1].to <= gap {
			spans[n-1].to = to
			continue
		}
		spans = append(spans, span{from, to})
	}
	return spans
}
