package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

const (
	// pullPrefix begins the name of a directory that holds a pull under way, or
	// what one left behind.
	pullPrefix = ".pull-"
	// pullWorkers fetch together, runBytes at a time.
	pullWorkers = 3
	runBytes    = 4 << 20
	// badPerSource is how many wrong frames are borne from each source.
	badPerSource = 3
)

// pull is one image on its way.
type pull struct {
	p      *Puller
	digest manifest.Digest
	dir    string
	known  chan struct{} // closed when the manifest is there, or it has failed
	opened chan struct{} // closed when bytes can be waited for, or it has failed
	done   chan struct{} // closed at its end

	// Written before known, opened or done are closed.
	raw      []byte
	manifest *manifest.Manifest
	pieces   []piece
	ended    time.Time

	mu      sync.Mutex // guards the fields below
	state   []pieceState
	urgent  []int // pieces that somebody waits for
	cursor  int   // no piece before it is missing
	bad     int
	change  chan struct{} // closed and replaced when a piece came or the end
	err     error
	isEnded bool
}

func newPull(p *Puller, d manifest.Digest) *pull {
	return &pull{
		p: p, digest: d, dir: filepath.Join(p.store.dir, pullPrefix+d.Hex()),
		known: make(chan struct{}), opened: make(chan struct{}), done: make(chan struct{}), change: make(chan struct{}),
	}
}

func (pl *pull) failure() error {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.err
}

// finish tells everybody who waits.
func (pl *pull) finish(err error) {
	pl.mu.Lock()
	pl.err, pl.ended, pl.isEnded = err, time.Now(), true
	close(pl.change)
	pl.mu.Unlock()
	for _, c := range []chan struct{}{pl.known, pl.opened} {
		if !over(c) {
			close(c)
		}
	}
	close(pl.done)
}

func (pl *pull) run(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, openWait)
	src, manifests, err := pl.p.sources(asking, pl.digest)
	cancel()
	if err != nil {
		return err
	}
	if pl.manifest, err = fetch.Manifest(ctx, manifests, pl.digest, fetch.Options{HTTP: fetch.HTTPOptions{Client: pl.p.o.Client}, Retry: pl.p.o.Retry}); err != nil {
		return err
	}
	if pl.raw, err = pl.manifest.Encode(); err != nil {
		return err
	}
	close(pl.known)
	f, err := pl.prepare(ctx)
	if err != nil {
		return fmt.Errorf("pull image %s: %w", pl.digest, err)
	}
	err = pl.fill(ctx, f, src, len(manifests))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = pl.keep(ctx)
	}
	if err != nil {
		return fmt.Errorf("pull image %s: %w", pl.digest, err)
	}
	return nil
}

// prepare makes the files, as long as they will be, and counts what an earlier
// pull left.
func (pl *pull) prepare(ctx context.Context) (_ *os.File, err error) {
	pl.pieces = cut(pl.manifest)
	pl.state = make([]pieceState, len(pl.pieces))
	f, err := pl.p.claim(ctx, pl)
	if err != nil {
		return nil, err
	}
	if err := pl.recount(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	close(pl.opened)
	return f, nil
}

// recount trusts of what is on the disk only frames that match.
func (pl *pull) recount(ctx context.Context, f *os.File) error {
	var buf []byte
	for i, pc := range pl.pieces {
		if pc.frame < 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if int64(cap(buf)) < pc.length {
			buf = make([]byte, pc.length)
		}
		if _, err := f.ReadAt(buf[:pc.length], pc.offset); err != nil {
			return err
		}
		if manifest.Sum(buf[:pc.length]) == pl.manifest.Frames[pc.frame].PackedSHA256 {
			pl.state[i] = pieceHere
		}
	}
	return nil
}

// fill fetches all that is missing, and checks what no hash covers: where that
// is wrong, another source is asked for it.
func (pl *pull) fill(ctx context.Context, f *os.File, src fetch.Source, sources int) error {
	for tried := 1; ; tried++ {
		if err := pl.fetchAll(ctx, f, src, sources); err != nil {
			return err
		}
		err := pack.VerifyHoles(ctx, f, pl.manifest)
		if err == nil {
			return f.Sync()
		}
		if !errors.Is(err, pack.ErrDamaged) || tried == sources {
			return err
		}
		pl.doubtFillers(src)
	}
}

func (pl *pull) fetchAll(ctx context.Context, f *os.File, src fetch.Source, sources int) error {
	group, working := errgroup.WithContext(ctx)
	for range pullWorkers {
		group.Go(func() error {
			var buf []byte // as long as the longest piece so far
			for {
				first, last := pl.next()
				if first == last {
					return nil
				}
				if err := pl.fetch(working, f, src, first, last, &buf); err != nil {
					return err
				}
				if bad := pl.wrong(); bad > badPerSource*sources {
					return fmt.Errorf("%d frames did not match the manifest, from %d controllers: %w", bad, sources, pack.ErrDamaged)
				}
			}
		})
	}
	return group.Wait()
}

// doubtFillers makes what no hash covers missing again, and whoever sent the
// last of it, the seek table, suspect for good.
func (pl *pull) doubtFillers(src fetch.Source) {
	last := pl.pieces[len(pl.pieces)-1]
	for range badPerSource {
		fetch.Suspect(src, last.offset, last.length)
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.cursor = 0
	for i, pc := range pl.pieces {
		if pc.frame < 0 {
			pl.state[i] = pieceMissing
		}
	}
}

// fetch reads a run of pieces. A frame that does not match is put back, with
// all behind it, and its source is suspected.
func (pl *pull) fetch(ctx context.Context, f *os.File, src fetch.Source, first, last int, buf *[]byte) error {
	defer pl.putBack(first, last)
	end := pl.pieces[last-1].offset + pl.pieces[last-1].length
	body, err := src.Range(ctx, pl.pieces[first].offset, end-pl.pieces[first].offset)
	if err != nil {
		return err
	}
	defer body.Close()
	for i := first; i < last; i++ {
		pc := pl.pieces[i]
		if int64(cap(*buf)) < pc.length {
			*buf = make([]byte, pc.length)
		}
		data := (*buf)[:pc.length]
		if _, err := io.ReadFull(body, data); err != nil {
			return err
		}
		if pc.frame >= 0 && manifest.Sum(data) != pl.manifest.Frames[pc.frame].PackedSHA256 {
			fetch.Suspect(src, pc.offset, pc.length)
			pl.mu.Lock()
			pl.bad++
			pl.mu.Unlock()
			pl.p.add(func(c *PullCount) { c.BadFrames++ })
			return nil
		}
		if _, err := f.WriteAt(data, pc.offset); err != nil {
			return err
		}
		pl.arrived(i)
		pl.p.add(func(c *PullCount) { c.Bytes += uint64(pc.length) })
	}
	return nil
}

// keep puts the copy into service here.
func (pl *pull) keep(ctx context.Context) error {
	if err := pack.SyncDir(pl.dir); err != nil {
		return err
	}
	if err := pl.p.store.place(pl.dir, pl.digest); err != nil {
		return err
	}
	// The other copy of an exchange, if there was one.
	if err := os.RemoveAll(pl.dir); err != nil {
		return err
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		known, err := pl.p.o.Copies.ImageCopyKeep(ctx, pl.digest)
		switch {
		case err == nil && known:
			return nil
		case err == nil:
			return errors.Join(errors.New("it was deleted meanwhile"), pl.p.store.remove(pl.digest))
		}
		pl.p.store.log.Warn("pulled image is not recorded yet", "image", string(pl.digest), "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err() // the next start records it
		case <-time.After(wait):
		}
	}
}
