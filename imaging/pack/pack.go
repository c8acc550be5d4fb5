package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Pack makes the directory dir with the two files of the image. dir must not
// exist (ErrExists); after an error it still does not.
func Pack(ctx context.Context, in Input, dir string, opts Options) (_ *Result, err error) {
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("pack image into %s: %w", dir, ErrExists)
	}
	parent := filepath.Dir(dir)
	temp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".partial-")
	if err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	result, err := Fill(ctx, in, temp, opts)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temp, dir); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("%w (%w)", ErrExists, err)
		}
		return nil, fmt.Errorf("pack image into %s: %w", dir, err)
	}
	return result, SyncDir(parent)
}

// Fill writes the two files into dir, which exists and is empty, and syncs
// them and dir. It is Pack for callers that choose the name by the digest and
// rename themselves. After an error dir may hold incomplete files.
func Fill(ctx context.Context, in Input, dir string, opts Options) (*Result, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	result, err := fillDir(ctx, in, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	return result, nil
}

func (o Options) withDefaults() (Options, error) {
	if _, err := ParseFormat(string(o.Format)); err != nil {
		return o, err
	}
	if o.FrameSize == 0 {
		o.FrameSize = manifest.DefaultFrameSize
	}
	if o.MaxSizeBytes == 0 {
		o.MaxSizeBytes = 1 << 40
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	// A manifest of one hole carries everything else that the user chose, so
	// that a wrong word is an error now and not after an hour.
	trial := &manifest.Manifest{
		Version: manifest.Version, Kind: manifest.KindDisk, Name: o.Name, Architecture: o.Architecture,
		SectorSize: max(o.SectorSize, 512), SizeBytes: 4096, FrameSizeBytes: o.FrameSize, Boot: o.Boot,
		Frames: []manifest.Frame{{Zero: true, Size: 4096}},
	}
	return o, trial.Validate()
}

func fillDir(ctx context.Context, in Input, dir string, o Options) (_ *Result, err error) {
	var read atomic.Int64
	src, err := openInput(ctx, in, o, &read)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	report := throttled(o.Progress)
	during := func(phase string) func(content, packed int64) {
		return func(content, packed int64) {
			report(Progress{Phase: phase, InputBytes: read.Load(), InputTotal: in.Size, ContentBytes: content, ContentTotal: src.size, PackedBytes: packed})
		}
	}
	warnings, trimmed, err := src.prepare(ctx, dir, o, during("unpack"))
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Join(dir, FramesFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	buffered := bufio.NewWriterSize(out, 1<<20)
	p := &packer{o: o, src: src, out: buffered, progress: during("pack")}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(buffered.Flush(), out.Sync()); err != nil {
		return nil, fmt.Errorf("write packed frames: %w", err)
	}
	result, err := p.describe(out)
	if err != nil {
		return nil, err
	}
	result.Format, result.Evidence, result.TrimmedBytes = src.format, src.evidence, trimmed.Load()
	result.Warnings = append(warnings, result.Warnings...)
	// What is verified shall come from the disk, not from the cache of what was
	// written; where the system does not care for the advice, so be it.
	_ = unix.Fadvise(int(out.Fd()), 0, 0, unix.FADV_DONTNEED)
	err = Verify(ctx, out, result.Manifest, func(n int64) {
		report(Progress{Phase: "verify", InputBytes: read.Load(), InputTotal: in.Size, ContentBytes: n, ContentTotal: int64(p.size), PackedBytes: int64(p.packedSize)})
	})
	if err != nil {
		return nil, err
	}
	return result, writeManifest(dir, result)
}

// describe makes the manifest, with what the partition table tells.
func (p *packer) describe(packed *os.File) (*Result, error) {
	if p.size%512 != 0 {
		return nil, p.notWhole()
	}
	m := &manifest.Manifest{
		Version: manifest.Version, Kind: manifest.KindDisk, Name: p.o.Name, Architecture: p.o.Architecture,
		SectorSize: 512, SizeBytes: p.size, FrameSizeBytes: p.o.FrameSize, PackedSizeBytes: p.packedSize, Frames: p.rows,
	}
	disk, err := NewContent(packed, m)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	l, err := detectLayout(disk, int64(p.size), p.o.SectorSize)
	if err != nil {
		return nil, err
	}
	if p.size%uint64(l.sectorSize) != 0 {
		return nil, fmt.Errorf("%w: its size of %d bytes is no multiple of its sector size %d", ErrDamaged, p.size, l.sectorSize)
	}
	m.SectorSize, m.Boot = l.sectorSize, l.merge(p.o.Boot)
	digest, err := m.Digest()
	if err != nil {
		return nil, err
	}
	return &Result{Manifest: m, Digest: digest, Warnings: l.warnings}, nil
}

func (p *packer) notWhole() error {
	return fmt.Errorf("%w: its size of %d bytes is no multiple of 512, so it is not a whole disk", ErrDamaged, p.size)
}

func writeManifest(dir string, result *Result) (err error) {
	data, err := result.Manifest.Encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, ManifestFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	_, writeErr := f.Write(data)
	if err := errors.Join(writeErr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return SyncDir(dir)
}

// SyncDir makes names in a directory survive a power cut.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// throttled lets through the first call, then about ten a second, and every
// change of phase. Calls come from one goroutine at a time.
func throttled(call func(Progress)) func(Progress) {
	var last time.Time
	phase := ""
	return func(p Progress) {
		if now := time.Now(); p.Phase != phase || now.Sub(last) >= 100*time.Millisecond {
			phase, last = p.Phase, now
			call(p)
		}
	}
}
