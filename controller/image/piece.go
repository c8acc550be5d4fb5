package image

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// piece is a stretch of the packed file that arrives as a whole: a frame with
// data, or filler between such frames (holes' frames, the seek table).
type piece struct {
	offset, length int64
	frame          int // in the manifest; -1: filler
}

type pieceState uint8

const (
	pieceMissing pieceState = iota
	pieceComing
	pieceHere
)

// fillerBytes bounds a piece of filler.
const fillerBytes = 1 << 20

// cut divides the whole packed file into pieces.
func cut(m *manifest.Manifest) []piece {
	var out []piece
	at := int64(0)
	filler := func(to int64) {
		for at < to {
			n := min(to-at, fillerBytes)
			out = append(out, piece{at, n, -1})
			at += n
		}
	}
	for i, f := range m.Frames {
		if f.Zero {
			continue
		}
		filler(int64(f.Offset))
		out = append(out, piece{int64(f.Offset), int64(f.PackedSize), i})
		at = int64(f.Offset) + int64(f.PackedSize)
	}
	filler(int64(m.PackedSizeBytes))
	return out
}

// next takes a run of missing pieces to fetch: the one that somebody waits for,
// or the first. first equals last when there is nothing to take.
func (pl *pull) next() (first, last int) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	first = len(pl.pieces)
	for len(pl.urgent) > 0 && first == len(pl.pieces) {
		if i := pl.urgent[0]; pl.state[i] == pieceMissing {
			first = i
		}
		pl.urgent = pl.urgent[1:]
	}
	if first == len(pl.pieces) {
		for pl.cursor < len(pl.pieces) && pl.state[pl.cursor] != pieceMissing {
			pl.cursor++
		}
		first = pl.cursor
	}
	total := int64(0)
	for last = first; last < len(pl.pieces) && pl.state[last] == pieceMissing; last++ {
		if total += pl.pieces[last].length; total > runBytes && last > first {
			break
		}
		pl.state[last] = pieceComing
	}
	return first, last
}

// putBack makes what did not come missing again.
func (pl *pull) putBack(first, last int) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for i := first; i < last; i++ {
		if pl.state[i] == pieceComing {
			pl.state[i] = pieceMissing
			pl.cursor = min(pl.cursor, i)
		}
	}
}

func (pl *pull) arrived(i int) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.state[i] = pieceHere
	close(pl.change)
	pl.change = make(chan struct{})
}

func (pl *pull) wrong() int {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.bad
}

// await waits until the byte at offset is here, and gives how many are from
// there on, at most want. What it waits for is fetched first.
func (pl *pull) await(ctx context.Context, offset, want int64) (int64, error) {
	i := sort.Search(len(pl.pieces), func(i int) bool { return pl.pieces[i].offset > offset }) - 1
	for {
		pl.mu.Lock()
		n := pl.contiguous(i, offset, want)
		ended, err, change := pl.isEnded, pl.err, pl.change
		if n == 0 && !ended && pl.state[i] == pieceMissing {
			pl.want(i)
		}
		pl.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case ended:
			return 0, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (pl *pull) want(i int) {
	for _, other := range pl.urgent {
		if other == i {
			return
		}
	}
	pl.urgent = append(pl.urgent, i)
}

func (pl *pull) contiguous(i int, offset, want int64) int64 {
	n := int64(0)
	for ; i < len(pl.pieces) && n < want && pl.state[i] == pieceHere; i++ {
		n = pl.pieces[i].offset + pl.pieces[i].length - offset
	}
	return min(n, want)
}

// arrivingFile reads the packed file of a pull, as far as it is here.
type arrivingFile struct {
	*os.File
	pull *pull
}

func (pl *pull) open() (*arrivingFile, error) {
	if err := pl.failure(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(pl.dir, pack.FramesFile))
	if err != nil {
		return nil, err
	}
	return &arrivingFile{f, pl}, nil
}

// await is pull.await at the place where the next Read would be.
func (a *arrivingFile) await(ctx context.Context, want int64) (int64, error) {
	at, err := a.Seek(0, 1)
	if err != nil {
		return 0, err
	}
	return a.pull.await(ctx, at, want)
}

// Read waits for what it reads.
func (a *arrivingFile) Read(p []byte) (int, error) {
	n, err := a.await(a.pull.p.ctx, int64(len(p)))
	if err != nil {
		return 0, err
	}
	if n == 0 { // at the end of the file, and of the pull
		return 0, io.EOF
	}
	return a.File.Read(p[:n])
}
