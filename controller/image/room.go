package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// inUse is how long a copy stays after it was read last, whatever is needed.
const inUse = 10 * time.Minute

// touchEvery is how often the time of the last use is written down.
const touchEvery = time.Minute

// touch notes that a copy is used: the time of its directory, which nothing else
// changes once the image is complete.
func (s *Store) touch(d manifest.Digest) {
	now := time.Now()
	s.mu.Lock()
	last := s.touched[d]
	if now.Sub(last) >= touchEvery {
		s.touched[d] = now
	}
	s.mu.Unlock()
	if now.Sub(last) >= touchEvery {
		// Only the order in which copies are given up depends on it.
		_ = os.Chtimes(s.path(d), now, now)
	}
}

// claim takes the space for a pull and opens its file.
func (p *Puller) claim(ctx context.Context, pl *pull) (_ *os.File, err error) {
	p.room.Lock()
	defer p.room.Unlock()
	size := int64(pl.manifest.PackedSizeBytes)
	if uint64(size) > p.store.opts.MaxSizeBytes+p.store.opts.MaxSizeBytes/64 {
		return nil, fmt.Errorf("%w: it takes %d bytes", ErrUploadTooLarge, size)
	}
	path := filepath.Join(pl.dir, pack.FramesFile)
	if err := p.makeRoom(ctx, pl, allocated(path)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(pl.dir))
	}
	if err := os.MkdirAll(pl.dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeSynced(filepath.Join(pl.dir, pack.ManifestFile), pl.raw); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// So that the space cannot go to others half-way; not every filesystem can.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, max(size, 1)); errors.Is(err, unix.ENOSPC) {
		return nil, errors.Join(fmt.Errorf("%w: its frames take %d MiB", ErrNoSpace, size>>20), f.Close(), os.RemoveAll(pl.dir))
	}
	return f, f.Truncate(size)
}

// allocated is what a file takes already.
func allocated(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return uint64(st.Blocks) * 512
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// makeRoom gives up what pulls left, then pulled copies that were not used for
// long, until this one fits below both limits.
func (p *Puller) makeRoom(ctx context.Context, pl *pull, has uint64) error {
	need := pl.manifest.PackedSizeBytes + uint64(len(pl.raw))
	if p.o.MaxBytes > 0 && need > p.o.MaxBytes {
		return fmt.Errorf("%w: pulled images may take %d MiB together, this one takes %d", ErrNoSpace, p.o.MaxBytes>>20, need>>20)
	}
	fits := func(taken uint64) bool {
		return (p.o.MaxBytes == 0 || taken+need <= p.o.MaxBytes) && p.store.roomFor(need-min(has, need))
	}
	copies, taken, err := p.pulled(ctx)
	if err != nil {
		return err
	}
	if taken += p.coming(pl); !fits(taken) {
		p.dropLeftovers(pl)
	}
	for _, c := range copies {
		if fits(taken) {
			return nil
		}
		if time.Since(c.used) < inUse {
			break
		}
		gone, err := p.o.Copies.ImageCopyDrop(ctx, c.digest)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		p.store.log.Info("pulled image given up for another", "image", string(c.digest), "bytes", c.bytes, "last_used", c.used)
		if err := p.store.remove(c.digest); err != nil {
			return err
		}
		taken -= c.bytes
	}
	if !fits(taken) {
		return fmt.Errorf("%w: it takes %d MiB, and no pulled image can be given up", ErrNoSpace, need>>20)
	}
	return nil
}

// roomFor tells whether so many bytes more would leave what must stay free.
func (s *Store) roomFor(bytes uint64) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return true // a write will tell
	}
	return st.Bavail*uint64(st.Bsize) >= s.opts.MinFreeBytes+bytes
}

type pulledCopy struct {
	digest manifest.Digest
	bytes  uint64
	used   time.Time
}

// pulled lists pulled copies, the least recently used first.
func (p *Puller) pulled(ctx context.Context) (list []pulledCopy, total uint64, err error) {
	digests, err := p.o.Copies.ImageCopiesPulled(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, d := range digests {
		img, err := p.store.get(d)
		if err != nil {
			continue // not here; the next start sets the record right
		}
		info, err := os.Stat(p.store.path(d))
		if err != nil {
			continue
		}
		list = append(list, pulledCopy{d, img.Manifest.PackedSizeBytes, info.ModTime()})
		total += img.Manifest.PackedSizeBytes
	}
	slices.SortFunc(list, func(a, b pulledCopy) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.digest, b.digest)) })
	return list, total, nil
}

// coming is what the other pulls under way will take.
func (p *Puller) coming(but *pull) (total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pl := range p.pulls {
		if pl == but {
			continue
		}
		if over(pl.opened) && !over(pl.done) {
			total += pl.manifest.PackedSizeBytes
		}
	}
	return total
}

// over tells whether a channel is closed.
func over(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// dropLeftovers removes what pulls left that nobody goes on with.
func (p *Puller) dropLeftovers(but *pull) {
	active := map[string]bool{filepath.Base(but.dir): true}
	p.mu.Lock()
	for _, pl := range p.pulls {
		if !over(pl.done) {
			active[filepath.Base(pl.dir)] = true
		}
	}
	p.mu.Unlock()
	err := p.store.PullsDrop(func(d manifest.Digest) bool { return active[pullPrefix+d.Hex()] })
	if err != nil {
		p.store.log.Warn("what pulls left is not removed", "err", err)
	}
}

// PullsDrop removes what broken pulls left of the images that are not to be kept.
func (s *Store) PullsDrop(keep func(manifest.Digest) bool) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list pulls: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), pullPrefix)
		if d, err := manifest.ParseDigest(name); !ok || (err == nil && keep(d)) {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
	}
	return errors.Join(errs...)
}
