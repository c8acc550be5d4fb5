package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// frameBytes is the smallest frame that there is.
const frameBytes = 64 << 10

// picture is one image, in the image store and in memory.
type picture struct {
	manifest string // file
	digest   manifest.Digest
	packed   int64
	content  int64
}

// makeImage makes an image of so many frames that pack to a third, in the
// directory of an image store.
func makeImage(ctx context.Context, store string, seed uint64, frames int) (picture, error) {
	raw := make([]byte, frames*frameBytes)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	text := bytes.Repeat([]byte("all work and no play makes a dull image\n"), frameBytes/40+1)
	for at := 0; at < len(raw); at += frameBytes {
		frame := raw[at : at+frameBytes]
		n := frameBytes * 3 / 10
		_, _ = rng.Read(frame[:n]) // never fails
		copy(frame[n:], text)
	}
	dir := filepath.Join(store, fmt.Sprintf("making-%d-%d", seed, frames))
	done, err := pack.Pack(ctx, pack.Input{Reader: bytes.NewReader(raw), Size: int64(len(raw))}, dir,
		pack.Options{Format: pack.Raw, Architecture: "amd64", SectorSize: 512, FrameSize: frameBytes})
	if err != nil {
		return picture{}, err
	}
	final := filepath.Join(store, done.Digest.Hex())
	if err := os.Rename(dir, final); err != nil {
		return picture{}, err
	}
	packed := int64(0)
	for i := range done.Manifest.Frames {
		packed += int64(done.Manifest.Frames[i].PackedSize)
	}
	return picture{filepath.Join(final, "manifest.json"), done.Digest, packed, int64(len(raw))}, nil
}
