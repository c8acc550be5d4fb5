package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// imagePage is how many images are looked up at a time.
	imagePage = 200
	// sweepEvery is how often disk and rows are compared while we run.
	sweepEvery = 10 * time.Minute
	// settledAfter is how old a copy without a row must be to count as left over:
	// an import stores first and records then, within minutes.
	settledAfter = 15 * time.Minute
)

// sameDatabase reports whether this data directory belongs to the database that
// was opened: their authorities are equal, or the directory is new.
func (h *house) sameDatabase() bool {
	old, err := os.ReadFile(filepath.Join(h.c.DataDir, "ca.pem"))
	return err != nil || bytes.Equal(old, h.authority.PEM())
}

// settleCopies makes disk and rows agree about this controller's images, before
// anybody may ask for one. An import that was cut off between its last rename and
// its row was never acknowledged, and neither was a deletion after its row was
// gone: such a copy is removed. With another database than before nothing is.
func (h *house) settleCopies(ctx context.Context) error {
	if err := h.compareCopies(ctx, 0); err != nil {
		return err
	}
	return h.settlePulls(ctx)
}

// sweepCopies compares again and again until ctx ends: a deletion that could not
// remove its files, or one at another controller, leaves copies behind.
func (h *house) sweepCopies(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := h.compareCopies(ctx, settledAfter); err != nil && ctx.Err() == nil {
			h.log.Warn("images on disk could not be compared with the database", "err", err)
		}
	}
}

// compareCopies makes disk and rows agree, but leaves copies alone that have no
// row and are younger than age: they may be on their way.
func (h *house) compareCopies(ctx context.Context, age time.Duration) error {
	copies, err := h.images.List(ctx)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, c := range copies {
		kept[c.Digest.Hex()] = true
		row, err := h.store.ImageGet(ctx, c.Digest.Hex())
		switch {
		case fault.Is(err, fault.NotFound):
			err = h.leftover(c, age)
		case err == nil && len(row.HostedOn) > 0 && !slices.Contains(row.HostedOn, h.id):
			// Somebody else has it too, so it may be given up like a pulled one.
			_, err = h.store.ImageCopyKeep(ctx, row.Digest, h.id)
		case err == nil && len(row.HostedOn) == 0:
			err = h.store.ImageRecord(ctx, row, h.id, "ingotd")
		}
		if err != nil {
			return err
		}
	}
	return h.forgetLost(ctx, kept)
}

// settlePulls removes what broken pulls left of images that are gone; of others
// the next pull goes on.
func (h *house) settlePulls(ctx context.Context) error {
	var failed error
	err := h.images.PullsDrop(func(d manifest.Digest) bool {
		_, err := h.store.ImageGet(ctx, d.Hex())
		if err != nil && !fault.Is(err, fault.NotFound) {
			failed = errors.Join(failed, err)
		}
		return !fault.Is(err, fault.NotFound)
	})
	return errors.Join(failed, err)
}

func (h *house) leftover(c image.Image, age time.Duration) error {
	if time.Since(c.ImportedAt) < age {
		return nil
	}
	if !h.same {
		h.log.Warn("image on disk is unknown to this database, which is not the one of before; it is left alone", "image", string(c.Digest))
		return nil
	}
	h.log.Info("image on disk was never recorded, or was deleted; its copy is removed", "image", string(c.Digest), "bytes", c.Manifest.PackedSizeBytes)
	if err := h.images.Delete(c.Digest); !errors.Is(err, image.ErrNotFound) {
		return err
	}
	return nil
}

// forgetLost takes back what the rows say of copies that are not here any more.
func (h *house) forgetLost(ctx context.Context, kept map[string]bool) error {
	for token := ""; ; {
		page, next, err := h.store.ImageList(ctx, "", imagePage, token)
		if err != nil {
			return err
		}
		if err := h.forgetOf(ctx, page, kept); err != nil || next == "" {
			return err
		}
		token = next
	}
}

func (h *house) forgetOf(ctx context.Context, page []store.Image, kept map[string]bool) error {
	for _, row := range page {
		if kept[row.Digest] || !slices.Contains(row.HostedOn, h.id) {
			continue
		}
		if d, err := manifest.ParseDigest(row.Digest); err == nil {
			if _, err := h.images.Get(d); err == nil {
				continue // it came while we looked
			}
		}
		h.log.Error("copy of an image is gone from the disk or cannot be read: import it again", "image", row.Digest, "name", row.Name)
		if err := h.store.ImageCopyForget(ctx, row.Digest, h.id); err != nil {
			return err
		}
	}
	return nil
}
