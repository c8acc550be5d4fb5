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

// imagePage is how many images are looked up at a time.
const imagePage = 200

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
func (h *house) settleCopies(ctx context.Context, same bool) error {
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
			err = h.leftover(c, same)
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
	if err := h.settlePulls(ctx); err != nil {
		return err
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

func (h *house) leftover(c image.Image, same bool) error {
	if !same {
		h.log.Warn("image on disk is unknown to this database, which is not the one of before; it is left alone", "image", string(c.Digest))
		return nil
	}
	h.log.Info("image on disk was never recorded, or was deleted; its copy is removed", "image", string(c.Digest), "bytes", c.Manifest.PackedSizeBytes)
	return h.images.Delete(c.Digest)
}

// tidyEvery is how often copies are looked for that no row names any more.
const tidyEvery = 10 * time.Minute

// tidy removes copies of images that were deleted at another controller. One is
// in place a moment before its row is, so it goes only when it was without one
// twice in a row.
func (h *house) tidy(ctx context.Context) error {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	var before []manifest.Digest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, err := h.tidyOnce(ctx, before)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("look for images that no row names", "err", err)
		}
		before = now
	}
}

// tidyOnce removes those of before that still have no row, and gives the others
// that have none.
func (h *house) tidyOnce(ctx context.Context, before []manifest.Digest) (without []manifest.Digest, err error) {
	list, err := h.images.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		_, err := h.store.ImageGet(ctx, c.Digest.Hex())
		switch {
		case err == nil:
		case !fault.Is(err, fault.NotFound):
			return nil, err
		case !slices.Contains(before, c.Digest):
			without = append(without, c.Digest)
		default:
			h.log.Info("image was deleted at another controller; its copy is removed", "image", string(c.Digest), "bytes", c.Manifest.PackedSizeBytes)
			if err := h.images.Delete(c.Digest); err != nil && !errors.Is(err, image.ErrNotFound) {
				return nil, err
			}
		}
	}
	return without, nil
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
		h.log.Error("copy of an image is gone from the disk or cannot be read: import it again", "image", row.Digest, "name", row.Name)
		if err := h.store.ImageCopyForget(ctx, row.Digest, h.id); err != nil {
			return err
		}
	}
	return nil
}
