package pack

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// packedDisk is what was packed once already, to be read at any place.
type packedDisk struct {
	packed *os.File
	m      *manifest.Manifest
}

func (d *packedDisk) cursor() (cursor, error) {
	c, err := NewContent(d.packed, d.m)
	return &packedCursor{c}, err
}

type packedCursor struct{ c *Content }

func (c *packedCursor) readAt(buf []byte, off int64) (bool, error) {
	m := c.c.m
	if first := off / int64(m.FrameSizeBytes); off%int64(m.FrameSizeBytes) == 0 &&
		m.Frames[first].Zero && len(buf) <= int(m.Frames[first].Size) {
		return true, nil
	}
	_, err := c.c.ReadAt(buf, off)
	return false, err
}

func (c *packedCursor) close() { c.c.Close() }

// settleStream makes a disk of a stream, by packing it into a file of dir that
// has no name any more: where data may be left out is known only once all of
// it was seen.
func (s *source) settleStream(ctx context.Context, dir string, o Options, progress func(content, packed int64)) error {
	f, err := os.OpenFile(filepath.Join(dir, ".untrimmed"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("pack stream first: %w", err)
	}
	s.closers = append(s.closers, f.Close)
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("pack stream first: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	p := &packer{o: o, src: s, out: buffered, progress: progress}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("pack stream first: %w", err)
	}
	m := &manifest.Manifest{
		Version: manifest.Version, Kind: manifest.KindDisk, Architecture: o.Architecture,
		SectorSize: 512, SizeBytes: p.size, FrameSizeBytes: o.FrameSize, PackedSizeBytes: p.packedSize, Frames: p.rows,
	}
	if p.size%512 != 0 {
		return p.notWhole()
	}
	s.disk, s.size, s.stream = &packedDisk{f, m}, int64(p.size), nil
	return m.Validate()
}
