package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// maxDataFrames keeps the manifest below its own limit: no row is longer than
// 185 characters.
const maxDataFrames = (manifest.MaxBytes - 16<<10) / 185

// piece is one frame on its way through the workers. It is used again and again.
type piece struct {
	at      int64  // where in the disk its content begins
	content []byte // of capacity frame size; holds the frame's size
	zero    bool
	packed  []byte
	row     manifest.Frame
	done    chan struct{} // holds one token when a worker has finished it
}

// packer is one run of compression.
type packer struct {
	o        Options
	src      *source
	out      io.Writer
	progress func(contentBytes, packedBytes int64)

	rows       []manifest.Frame
	seek       seekTable
	size       uint64 // content bytes
	packedSize uint64
	dataFrames int
}

// run reads, compresses in parallel and writes in order. A fixed number of
// pieces goes round, which bounds memory to about twice their frame size each.
func (p *packer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	count := 2*p.o.Workers + 2
	free := make(chan *piece, count)
	work := make(chan *piece, count)
	ordered := make(chan *piece, count)
	for range count {
		free <- &piece{done: make(chan struct{}, 1)}
	}
	group.Go(func() error {
		defer close(ordered)
		defer close(work)
		return p.read(ctx, free, work, ordered)
	})
	for range p.o.Workers {
		group.Go(func() error { return p.compress(ctx, work) })
	}
	group.Go(func() error { return p.write(ctx, ordered, free) })
	if err := group.Wait(); err != nil {
		return err
	}
	return p.finish()
}

func (p *packer) read(ctx context.Context, free <-chan *piece, work, ordered chan<- *piece) error {
	var size int64
	for {
		var pc *piece
		select {
		case pc = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if pc.content == nil {
			pc.content = make([]byte, p.o.FrameSize)
		}
		n, err := p.take(pc.content[:p.o.FrameSize], size)
		if n == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		pc.at, pc.content = size, pc.content[:n]
		if size += int64(n); uint64(size) > p.o.MaxSizeBytes {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, p.o.MaxSizeBytes)
		}
		work <- pc // room for all pieces: neither of these blocks
		ordered <- pc
		if n < int(p.o.FrameSize) {
			return nil // the sources give short pieces only at the end
		}
	}
}

// take gets the next content of a stream. Of a disk the workers read it, so
// there it only says how much.
func (p *packer) take(buf []byte, at int64) (int, error) {
	if p.src.disk == nil {
		return fill(p.src.stream, buf)
	}
	if at == p.src.size {
		return 0, io.EOF
	}
	return int(min(int64(len(buf)), p.src.size-at)), nil
}

func (p *packer) compress(ctx context.Context, work <-chan *piece) error {
	enc, err := codec.NewFrameEncoder(int(p.o.FrameSize))
	if err != nil {
		return err
	}
	var cur cursor
	if p.src.disk != nil {
		if cur, err = p.src.disk.cursor(); err != nil {
			return err
		}
		defer cur.close()
	}
	w := &frameWorker{enc: enc, frameSize: p.o.FrameSize}
	for pc := range work {
		if err := ctx.Err(); err != nil {
			return err
		}
		pc.zero = false
		if cur != nil {
			if pc.zero, err = cur.readAt(pc.content, pc.at); err != nil {
				return err
			}
		}
		w.pack(pc)
		size := uint32(len(pc.content))
		if len(pc.packed) > int(manifest.MaxPacked(size)) {
			return fmt.Errorf("a frame of %d bytes took %d packed, more than the format allows", size, len(pc.packed))
		}
		pc.done <- struct{}{}
	}
	return nil
}

// frameWorker packs the frames that one worker gets.
type frameWorker struct {
	enc       *codec.FrameEncoder
	frameSize uint32
	hole      []byte // a packed hole of full size, once there was one
}

func (w *frameWorker) pack(pc *piece) {
	size := uint32(len(pc.content))
	pc.row = manifest.Frame{Size: size, Zero: pc.zero || manifest.IsHole(pc.content)}
	if pc.row.Zero && size == w.frameSize && w.hole != nil {
		pc.packed = append(pc.packed[:0], w.hole...)
		return
	}
	if pc.zero {
		clear(pc.content) // its source has not
	}
	pc.packed = w.enc.Encode(pc.content, pc.packed[:0])
	switch {
	case !pc.row.Zero:
		pc.row.PackedSHA256 = manifest.Sum(pc.packed)
		pc.row.SHA256 = manifest.Sum(pc.content)
		pc.row.XXH3 = xxh3.Hash(pc.content)
	case size == w.frameSize:
		w.hole = bytes.Clone(pc.packed)
	}
}

func (p *packer) write(ctx context.Context, ordered <-chan *piece, free chan<- *piece) error {
	for pc := range ordered {
		select {
		case <-pc.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := p.out.Write(pc.packed); err != nil {
			return fmt.Errorf("write packed frames: %w", err)
		}
		if !pc.row.Zero {
			pc.row.Offset, pc.row.PackedSize = p.packedSize, uint32(len(pc.packed))
			if p.dataFrames++; p.dataFrames > maxDataFrames {
				return fmt.Errorf("%w: more than %d frames with data: use a larger frame size", ErrTooLarge, maxDataFrames)
			}
		}
		if p.rows = append(p.rows, pc.row); len(p.rows) > manifest.MaxFrames {
			return fmt.Errorf("%w: more than %d frames: use a larger frame size", ErrTooLarge, manifest.MaxFrames)
		}
		p.seek.add(len(pc.packed), len(pc.content))
		p.packedSize += uint64(len(pc.packed))
		p.size += uint64(len(pc.content))
		p.progress(int64(p.size), int64(p.packedSize))
		pc.content = pc.content[:cap(pc.content)]
		free <- pc
	}
	return nil
}

func (p *packer) finish() error {
	if p.size == 0 {
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	table := p.seek.encode()
	if _, err := p.out.Write(table); err != nil {
		return fmt.Errorf("write seek table: %w", err)
	}
	p.packedSize += uint64(len(table))
	return nil
}
