package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

// Config of a Disk.
type Config struct {
	Path       string // sparse backing file; made if it is missing
	Socket     string // Unix socket for QEMU; at most 107 bytes
	Size       int64  // bytes, a multiple of SectorSize; 0 takes the file's
	SectorSize int    // 512 or 4096; 0 means 512
	CacheMiB   int    // unflushed data kept at most; 0 means 32
	Seed       uint64 // of the choice what a full cache writes back
	Log        *slog.Logger
}

// Stats count what guests did since Open.
type Stats struct {
	BytesRead, BytesWritten, BytesZeroed  int64
	Reads, Writes, Zeroes, Trims, Flushes int64
	Errors                                int64 // injected ones and refused requests
	Connections                           int64
}

// Fault makes requests that touch a range answer EIO.
type Fault struct {
	Offset, Length int64
	Read, Write    bool
}

// Loss is what a PlugPull did.
type Loss struct {
	Waiting int64 // bytes that were not flushed
	Lost    int64 // those of them that are gone
}

// Disk is one disk. Its methods may be called concurrently.
type Disk struct {
	cfg Config
	log *slog.Logger
	ln  *net.UnixListener
	wg  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	file   *os.File
	cache  *cache
	conns  map[net.Conn]struct{}
	faults []Fault
	stats  Stats
	closed bool
}

// Open makes or opens the file and answers NBD clients until Close.
func Open(cfg Config) (*Disk, error) {
	if cfg.SectorSize == 0 {
		cfg.SectorSize = 512
	}
	if cfg.CacheMiB == 0 {
		cfg.CacheMiB = 32
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SectorSize != 512 && cfg.SectorSize != 4096 {
		return nil, fmt.Errorf("disk %s: sector size %d is neither 512 nor 4096", cfg.Path, cfg.SectorSize)
	}
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	d := &Disk{cfg: cfg, log: cfg.Log.With("disk", cfg.Path), file: f, conns: map[net.Conn]struct{}{}}
	if err := d.prepare(); err != nil {
		f.Close()
		return nil, err
	}
	d.cache = newCache(f, cfg.CacheMiB<<20, rand.New(rand.NewPCG(cfg.Seed, 0x6469736b)))
	d.wg.Go(d.accept)
	return d, nil
}

// prepare sizes the file and binds the socket.
func (d *Disk) prepare() error {
	st, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("stat disk: %w", err)
	}
	if d.cfg.Size == 0 {
		d.cfg.Size = st.Size()
	}
	if d.cfg.Size <= 0 || d.cfg.Size%int64(d.cfg.SectorSize) != 0 {
		return fmt.Errorf("disk %s: size %d is not a positive multiple of %d", d.cfg.Path, d.cfg.Size, d.cfg.SectorSize)
	}
	if st.Size() > d.cfg.Size {
		return fmt.Errorf("disk %s: the file has %d bytes, more than the disk's %d", d.cfg.Path, st.Size(), d.cfg.Size)
	}
	if err := d.file.Truncate(d.cfg.Size); err != nil {
		return fmt.Errorf("size disk: %w", err)
	}
	if err := os.Remove(d.cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale disk socket: %w", err)
	}
	d.ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: d.cfg.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for disk %s: %w", d.cfg.Path, err)
	}
	return nil
}

func (d *Disk) accept() {
	for {
		c, err := d.ln.Accept()
		if err != nil {
			return // closed
		}
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			c.Close()
			return
		}
		d.conns[c] = struct{}{}
		d.stats.Connections++
		d.wg.Go(func() { d.serve(c) })
		d.mu.Unlock()
	}
}

// Close makes all writes stable, ends connections and closes the file.
func (d *Disk) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	err := errors.Join(d.cache.flush(), d.ln.Close())
	d.hangUp()
	d.mu.Unlock()
	d.wg.Wait()
	return errors.Join(err, d.file.Close())
}

// hangUp closes all connections; requests that they still bring are refused,
// because alive then answers false. d.mu is held.
func (d *Disk) hangUp() {
	for c := range d.conns {
		c.Close()
		delete(d.conns, c)
	}
}

// PlugPull takes the power away: connections end, and of what was not flushed
// each sector is lost or kept as the seed decides. The disk can be used again
// at once.
func (d *Disk) PlugPull(seed uint64) (Loss, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangUp()
	waiting, lost, err := d.cache.lose(rand.New(rand.NewPCG(seed, 0x706c7567)), d.cfg.SectorSize)
	d.log.Info("disk lost power", "bytes", waiting, "lost", lost)
	return Loss{Waiting: waiting, Lost: lost}, err
}

// Flush makes everything stable, as a guest's flush would.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cache.flush()
}

// Size in bytes.
func (d *Disk) Size() int64 { return d.cfg.Size }

// SectorSize in bytes.
func (d *Disk) SectorSize() int { return d.cfg.SectorSize }

// Socket is the path that QEMU connects to.
func (d *Disk) Socket() string { return d.cfg.Socket }

// ReadAt reads what a guest would read now, with its unflushed writes.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.cfg.Size-int64(len(p)) {
		return 0, fmt.Errorf("read disk at %d: outside of its %d bytes", off, d.cfg.Size)
	}
	start := off / unit * unit
	end := (off + int64(len(p)) + unit - 1) / unit * unit
	buf := make([]byte, end-start)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.cache.read(buf, start); err != nil {
		return 0, err
	}
	return copy(p, buf[off-start:]), nil
}

// Stats returns the counters.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// SetFaults replaces the ranges that answer EIO; none heals the disk.
func (d *Disk) SetFaults(f ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append([]Fault(nil), f...)
}
