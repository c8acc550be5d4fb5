package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Image is what the database knows of an image; its frames are on controllers'
// disks.
type Image struct {
	Digest          string // hex SHA-256 of its manifest
	Name            string
	Version         string
	Architecture    string
	Kind            string // disk or tree
	SizeBytes       uint64
	PackedSizeBytes uint64
	SectorBytes     uint32
	FrameBytes      uint32
	KexecAllowed    bool
	InService       bool
	CreatedAt       time.Time
	HostedOn        []string // ids of controllers that have a copy
}

// ImageRecord puts a stored and verified image into service, with the copy that
// the controller has. Recording it again adds the copy and changes no more.
func (s *Store) ImageRecord(ctx context.Context, i Image, controllerID, actor string) error {
	err := s.tx(ctx, "record image "+i.Digest, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.sql.Get("ImageRecord"), i.Digest, i.Name, i.Version, i.Architecture, i.Kind, i.SizeBytes,
			i.PackedSizeBytes, i.SectorBytes, i.FrameBytes, i.KexecAllowed)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("ImageCopyRecord"), i.Digest, controllerID); err != nil {
			return err
		}
		_, err = s.auditAdd(ctx, tx, actor, "image.record", i.Digest, map[string]string{"name": i.Name, "controller": controllerID})
		return err
	})
	if err == nil {
		s.changed()
	}
	return err
}

// ImageCopyForget says that a controller has no copy of the image any more.
func (s *Store) ImageCopyForget(ctx context.Context, digest, controllerID string) error {
	_, err := s.pool.Exec(ctx, s.sql.Get("ImageCopyForget"), digest, controllerID)
	return wrap(err, "forget a copy of image %s", digest)
}

// ImageGet finds an image in service by digest, or the newest one of a name.
func (s *Store) ImageGet(ctx context.Context, word string) (Image, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("ImageGet"), scanImage, cut(word, 300))
	if err != nil {
		return Image{}, wrap(err, "look for image %q", word)
	}
	if len(list) == 0 {
		return Image{}, fault.New(fault.NotFound, "no image %q: ingot image list shows all", cut(word, 80))
	}
	return list[0], nil
}

// ImageList lists images in service by digest. The token is empty after the
// last page.
func (s *Store) ImageList(ctx context.Context, size int, token string) ([]Image, string, error) {
	size = pageSize(size)
	list, err := collect(ctx, s.pool, s.sql.Get("ImageList"), scanImage, cut(token, 80), size+1)
	if err != nil {
		return nil, "", wrap(err, "list images")
	}
	next := ""
	if len(list) > size {
		list, next = list[:size], list[size-1].Digest
	}
	return list, next, nil
}

func scanImage(r pgx.CollectableRow) (Image, error) {
	var i Image
	err := r.Scan(&i.Digest, &i.Name, &i.Version, &i.Architecture, &i.Kind, &i.SizeBytes, &i.PackedSizeBytes, &i.SectorBytes,
		&i.FrameBytes, &i.KexecAllowed, &i.InService, &i.CreatedAt, &i.HostedOn)
	i.CreatedAt = i.CreatedAt.UTC()
	return i, err
}

// ImageDelete takes an image out of the database. One that is deployed, or is
// about to be, is fault.Precondition. Its files are the caller's to remove.
func (s *Store) ImageDelete(ctx context.Context, digest, actor string) error {
	err := s.tx(ctx, "delete image "+digest, func(tx pgx.Tx) error {
		var d string
		err := tx.QueryRow(ctx, s.sql.Get("ImageLock"), digest).Scan(&d)
		if err == pgx.ErrNoRows {
			return fault.New(fault.NotFound, "no image %q: ingot image list shows all", cut(digest, 80))
		}
		if err != nil {
			return err
		}
		var user string
		err = tx.QueryRow(ctx, s.sql.Get("ImageInUse"), digest).Scan(&user)
		if err == nil {
			return fault.New(fault.Precondition, "image %s is in use by machine %s: release it first", cut(digest, 12), user)
		}
		if err != pgx.ErrNoRows {
			return err
		}
		if _, err := s.auditAdd(ctx, tx, actor, "image.delete", digest, nil); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql.Get("ImageDelete"), digest)
		return err
	})
	if err == nil {
		s.changed()
	}
	return err
}
