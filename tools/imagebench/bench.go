package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/controller/image"
	imaging "github.com/ingot-metal/ingot/vmtest/image"
)

// bench is one run of the command.
type bench struct {
	dir    string // absolute
	self   string // this program, for the processes that it measures
	opts   options
	log    *slog.Logger
	store  *image.Store
	server *server
	peers  []peer // those that are installed
	ours   map[string]packed
	notes  []string
	runs   []sample
	legs   []legSample
}

// sample is one write by one writer in one round.
type sample struct {
	image, dest, writer, transport string
	round                          int
	wall, verified                 time.Duration // verified is 0 for writers that do not read back
	cpu                            time.Duration
	peak                           int64
	written, fetched               int64
	correct                        *bool // nil: not compared in this round
}

// legSample is one leg in one round.
type legSample struct {
	image, dest, leg string
	legTime
}

// Names of our rows.
const (
	ours          = "ingot"
	oursAgain     = "ingot-again"
	oursNeighbour = "ingot-neighbour"
	oursRebuilt   = "ingot-rebuilt"
)

// dirtyDest is the disk with old data on it.
const dirtyDest = "disk-dirty"

// prepare makes what all rounds read.
func (b *bench) prepare(ctx context.Context, subjects []*subject) error {
	keep := map[string]bool{}
	for _, s := range subjects {
		raws := []string{s.raw}
		for _, next := range []imaging.Next{imaging.Neighbour, imaging.Rebuilt} {
			if raw := s.next[next]; raw != "" {
				raws = append(raws, raw)
			}
		}
		for _, raw := range raws {
			p, err := b.importImage(ctx, raw)
			if err != nil {
				return fmt.Errorf("import %s: %w", raw, err)
			}
			b.ours[raw] = p
			keep[b.prefix(raw)] = true
			if err := b.writeManifest(raw, p); err != nil {
				return err
			}
		}
		for _, p := range b.peersOf(s) {
			endings := []string{p.input}
			if p.name == "bmaptool" {
				endings = append(endings, ".bmap")
			}
			for _, ending := range endings {
				if err := b.makeInput(ctx, s.raw, ending); err != nil {
					return err
				}
			}
		}
	}
	return b.prune(keep)
}

// peersOf are those that write the image. The sector size is all that is
// different in 4kn, so the reference is enough there.
func (b *bench) peersOf(s *subject) []peer {
	if s.name != "4kn" {
		return b.peers
	}
	return slices.DeleteFunc(slices.Clone(b.peers), func(p peer) bool { return p.name != reference })
}

func (b *bench) manifestFile(raw string) string {
	return filepath.Join(b.inputDir(), b.prefix(raw)+".manifest.json")
}

func (b *bench) writeManifest(raw string, p packed) error {
	data, err := p.manifest.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(b.manifestFile(raw), data, 0o644)
}

// measure goes through images and destinations; in each, every round lets all
// writers have one turn, and then the legs.
func (b *bench) measure(ctx context.Context, subjects []*subject, dests []dest) error {
	for _, s := range subjects {
		if err := b.warm(s); err != nil {
			return err
		}
		for _, d := range dests {
			for round := range b.opts.rounds {
				b.log.Info("round begins", "image", s.name, "dest", d.name, "round", round+1, "of", b.opts.rounds)
				if err := b.round(ctx, s, d, round); err != nil {
					return errors.Join(err, d.remove())
				}
			}
			if d.name == "disk" && contains(b.opts.dirty, s.name) {
				if err := b.dirtyRound(ctx, s, d); err != nil {
					return errors.Join(err, d.remove())
				}
			}
			if err := d.remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, s *subject, d dest, round int) error {
	size, err := fileSize(s.raw)
	if err != nil {
		return err
	}
	if b.wants(ours) {
		if err := d.blank(size); err != nil {
			return err
		}
		if err := b.write(ctx, s, d, turnOf{name: ours, dest: d.name, target: d.file(), round: round, raw: s.raw, compare: round == 0}); err != nil {
			return err
		}
	}
	for _, p := range b.peersOf(s) {
		if b.tooSlow(s, d, p) {
			continue
		}
		if err := d.blank(size); err != nil {
			return err
		}
		if err := b.peerWrite(ctx, s, d, p, turnOf{dest: d.name, target: d.file(), round: round, compare: round == 0}); err != nil {
			return err
		}
	}
	if err := b.again(ctx, s, d, round, size); err != nil {
		return err
	}
	return b.runLegs(ctx, s, d, size)
}

// patience is how many times as long as the reference a peer may take and be
// measured again: casync takes fifty times as long, and would double the time of
// the whole run.
const patience = 8

// tooSlow tells of peers whose first round said all there is to say.
func (b *bench) tooSlow(s *subject, d dest, p peer) bool {
	first := map[string]time.Duration{}
	for _, r := range b.runs {
		if r.image == s.name && r.dest == d.name && r.round == 0 {
			first[r.writer] = r.wall
		}
	}
	if limit := patience * first[reference]; limit == 0 || first[p.name] < limit {
		return false
	}
	b.note(fmt.Sprintf("%s: more than %d times as slow as %s, so measured in one round only", p.name, patience, reference))
	return true
}

// again writes images over what stands on a used disk.
func (b *bench) again(ctx context.Context, s *subject, d dest, round int, size int64) error {
	for _, a := range []struct{ writer, before, image string }{
		{oursAgain, s.next[imaging.Used], s.raw},
		{oursNeighbour, s.raw, s.next[imaging.Neighbour]},
		{oursRebuilt, s.raw, s.next[imaging.Rebuilt]},
	} {
		if a.before == "" || a.image == "" || len(s.next) == 0 || !b.wants(a.writer) {
			continue
		}
		if err := d.copyOf(ctx, a.before, size); err != nil {
			return err
		}
		if err := b.write(ctx, s, d, turnOf{name: a.writer, dest: d.name, target: d.file(), round: round, raw: a.image, compare: round == 0}); err != nil {
			return err
		}
	}
	return nil
}

// turnOf is one write of a round.
type turnOf struct {
	name    string // of the row; unused for peers
	dest    string // of the row
	target  string // file or device to write
	round   int
	raw     string // of the image to write; unused for peers
	compare bool   // read the target afterwards
}

// write has our own writer put the raw disk's image on the target.
func (b *bench) write(ctx context.Context, s *subject, d dest, t turnOf) error {
	p := b.ours[t.raw]
	j := job{manifestFile: b.manifestFile(t.raw), framesURL: b.server.framesURL(p), dest: t.target, sectorSize: s.sectorSize, reuse: t.name != ours}
	if b.opts.profiles && t.round == b.opts.rounds-1 {
		j.profile = filepath.Join(b.dir, fmt.Sprintf("%s-%s-%s.pprof", t.name, s.name, t.dest))
	}
	u, err := runPipeline(ctx, [][]string{ourWriter(b.self, j)})
	if err != nil {
		return err
	}
	var w written
	if err := json.Unmarshal(u.out, &w); err != nil {
		return fmt.Errorf("read what our writer says: %w", err)
	}
	result := sample{
		image: s.name, dest: t.dest, writer: t.name, transport: "http", round: t.round,
		wall: time.Unix(0, w.FlushedAt).Sub(u.started), verified: u.wall, cpu: u.cpu, peak: max(u.peak, w.PeakBytes),
		written: w.Report.BytesWritten, fetched: w.Report.BytesFetched,
	}
	return b.keep(result, d, t.raw, t.compare)
}

func (b *bench) peerWrite(ctx context.Context, s *subject, d dest, p peer, t turnOf) error {
	prefix := b.prefix(s.raw)
	stages := p.stages(place{url: b.server.base + "/inputs/" + prefix, path: filepath.Join(b.inputDir(), prefix), dest: t.target})
	u, err := runPipeline(ctx, stages)
	if err != nil {
		return err
	}
	if p.sync {
		start := time.Now()
		flushed, err := runPipeline(ctx, [][]string{{"sync", t.target}})
		if err != nil {
			return err
		}
		u.wall += time.Since(start)
		u.cpu += flushed.cpu
	}
	result := sample{image: s.name, dest: t.dest, writer: p.name, transport: p.transport, round: t.round, wall: u.wall, cpu: u.cpu, peak: u.peak}
	if result.written, err = d.allocated(); err != nil {
		return err
	}
	return b.keep(result, d, s.raw, t.compare)
}

func (b *bench) keep(result sample, d dest, raw string, compare bool) error {
	if compare {
		same, err := d.compare(raw)
		if err != nil {
			return fmt.Errorf("compare the target with %s: %w", raw, err)
		}
		result.correct = &same
	}
	b.log.Debug("writer ended", "writer", result.writer, "wall", result.wall, "verified", result.verified, "cpu", result.cpu, "peak", result.peak, "written", result.written)
	b.runs = append(b.runs, result)
	return nil
}

// dirtyRound lets everybody write over old data once, on a disk.
func (b *bench) dirtyRound(ctx context.Context, s *subject, d dest) error {
	b.log.Info("dirty round begins", "image", s.name)
	size, err := fileSize(s.raw)
	if err != nil {
		return err
	}
	turn := func(write func(target string) error) (err error) {
		if err := d.dirty(size); err != nil {
			return err
		}
		target, detach, err := d.asDisk(ctx, s.sectorSize)
		if err != nil {
			b.note("the dirty target is a plain file: " + err.Error())
			return write(d.file())
		}
		defer func() { err = errors.Join(err, detach()) }()
		return write(target)
	}
	if b.wants(ours) {
		if err := turn(func(target string) error {
			return b.write(ctx, s, d, turnOf{name: ours, dest: dirtyDest, target: target, raw: s.raw, compare: true})
		}); err != nil {
			return err
		}
	}
	for _, p := range b.peersOf(s) {
		if err := turn(func(target string) error {
			return b.peerWrite(ctx, s, d, p, turnOf{dest: dirtyDest, target: target, compare: true})
		}); err != nil {
			return err
		}
		b.runs[len(b.runs)-1].written = 0 // everything was allocated before; what was written cannot be told
	}
	return nil
}

// note is printed once below the table.
func (b *bench) note(text string) {
	if !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

func (b *bench) wants(writer string) bool { return contains(b.opts.writers, writer) }

// runLegs measures every leg alone. The target of the leg "write" is read by
// the leg "read".
func (b *bench) runLegs(ctx context.Context, s *subject, d dest, size int64) error {
	p := b.ours[s.raw]
	frames := filepath.Join(b.dir, "packed", p.digest.Hex(), "frames.zst")
	if err := d.blank(size); err != nil {
		return err
	}
	for _, name := range legs {
		args := []string{b.self, "leg", "-name", name, "-manifest", b.manifestFile(s.raw), "-url", b.server.framesURL(p), "-dest", d.file()}
		if slices.Contains([]string{"decode", "packed-sha256"}, name) {
			args = append(args, "-packed", frames)
		}
		if slices.Contains([]string{"xxh3", "sha256", "write"}, name) {
			args = append(args, "-raw", s.raw)
		}
		before := cpuTime()
		u, err := runPipeline(ctx, [][]string{args})
		if err != nil {
			return err
		}
		l := legSample{image: s.name, dest: d.name, leg: name}
		if err := json.Unmarshal(u.out, &l.legTime); err != nil {
			return fmt.Errorf("read what leg %s says: %w", name, err)
		}
		if name == "network" { // the server is on the same cores
			l.CPUS += (cpuTime() - before).Seconds()
		}
		b.legs = append(b.legs, l)
	}
	return nil
}

func fileSize(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Size, nil
}
