package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// recipes make a peer's input IN.ending from the raw disk, each at its tool's
// usual level; $1 is the raw disk, $2 the result.
var recipes = map[string]string{
	".raw.zst":    `zstd -q -3 -T0 -f "$1" -o "$2"`,
	".raw.gz":     `if command -v pigz >/dev/null; then pigz -6 -c "$1" >"$2"; else gzip -6 -c "$1" >"$2"; fi`,
	".raw.lz4":    `lz4 -q -f "$1" "$2"`,
	".bmap":       `bmaptool -q create -o "$2" "$1"`,
	".qcow2":      `qemu-img convert -f raw -O qcow2 "$1" "$2"`,
	".zstd.qcow2": `qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd "$1" "$2"`,
	".caibx":      `casync make --store="${3}.castr" "$2" "$1" >/dev/null`,
}

// prefix of the input files of an image: its own name and that of the raw
// file, which changes with the image.
func (b *bench) prefix(raw string) string {
	base := filepath.Base(raw)
	return base[:len(base)-len(filepath.Ext(base))]
}

func (b *bench) inputDir() string { return filepath.Join(b.dir, "inputs") }

// makeInput makes what the ending says for the raw disk unless it is there.
func (b *bench) makeInput(ctx context.Context, raw, ending string) error {
	prefix := filepath.Join(b.inputDir(), b.prefix(raw))
	final := prefix + ending
	if _, err := os.Stat(final); err == nil {
		return nil
	}
	b.log.Info("input is made", "input", filepath.Base(final))
	// The ending stays, since casync looks at it.
	partial := filepath.Join(b.inputDir(), "partial-"+filepath.Base(final))
	cmd := exec.CommandContext(ctx, "bash", "-euc", recipes[ending], "bash", raw, partial, prefix)
	cmd.WaitDelay = 5 * time.Second // what bash started may hold its output open
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make %s: %w: %s", final, err, clip(string(out), 500))
	}
	return os.Rename(partial, final)
}

// packed is an image in our own store.
type packed struct {
	digest   manifest.Digest
	manifest *manifest.Manifest
}

// importImage packs the raw disk with our packer, unless the store has it.
func (b *bench) importImage(ctx context.Context, raw string) (packed, error) {
	note := filepath.Join(b.inputDir(), b.prefix(raw)+".ingot.json")
	var digest manifest.Digest
	data, err := os.ReadFile(note)
	if err == nil {
		err = json.Unmarshal(data, &digest)
	}
	if err == nil {
		if img, err := b.store.Get(digest); err == nil {
			return packed{img.Digest, img.Manifest}, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return packed{}, fmt.Errorf("read %s: %w", note, err)
	}
	b.log.Info("image is imported", "image", filepath.Base(raw))
	img, err := b.store.Import(ctx, image.Source{Path: raw}, image.Request{Format: pack.Raw, Architecture: "amd64", Name: clip(b.prefix(raw), 100)})
	if err != nil {
		return packed{}, err
	}
	if data, err = json.Marshal(img.Digest); err != nil {
		return packed{}, err
	}
	return packed{img.Digest, img.Manifest}, os.WriteFile(note, data, 0o644)
}

// warm reads the image and all that was made of it into the page cache, so
// that nobody's first turn pays for a cold disk.
func (b *bench) warm(s *subject) error {
	frames := filepath.Join(b.dir, "packed", b.ours[s.raw].digest.Hex())
	inputs, err := filepath.Glob(filepath.Join(b.inputDir(), b.prefix(s.raw)+".*"))
	if err != nil {
		return err
	}
	for _, path := range append(inputs, frames) {
		err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(io.Discard, f)
			return err
		})
		if err != nil {
			return fmt.Errorf("read what is served: %w", err)
		}
	}
	return nil
}

// prune removes what earlier runs made of images that are no more: they take
// gigabytes. keep has the prefixes of those that are.
func (b *bench) prune(keep map[string]bool) error {
	entries, err := os.ReadDir(b.inputDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		// No prefix has a dot in it.
		if prefix, _, _ := strings.Cut(e.Name(), "."); !keep[prefix] && len(b.opts.images) == 0 {
			if err := os.RemoveAll(filepath.Join(b.inputDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	for _, p := range b.storedElse() {
		if err := b.store.Delete(p); err != nil {
			return err
		}
	}
	return nil
}

// storedElse are the images in the store that this run does not use.
func (b *bench) storedElse() []manifest.Digest {
	if len(b.opts.images) > 0 {
		return nil // others may be wanted by the next run
	}
	used := map[manifest.Digest]bool{}
	for _, p := range b.ours {
		used[p.digest] = true
	}
	var others []manifest.Digest
	all, err := b.store.List(context.Background())
	if err != nil {
		b.log.Warn("images not listed", "err", err)
	}
	for _, img := range all {
		if !used[img.Digest] {
			others = append(others, img.Digest)
		}
	}
	return others
}

// openStore opens our image store below the directory.
func openStore(dir string, log *slog.Logger) (*image.Store, error) {
	return image.Open(filepath.Join(dir, "packed"), image.Options{Logger: log})
}

func clip(s string, most int) string { return s[:min(len(s), most)] }
