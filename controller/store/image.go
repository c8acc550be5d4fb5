package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Bounds of what is kept of one image and shown of it.
const (
	// ImagesOfName is how many images of one name are looked at.
	ImagesOfName = 1000
	// imageUsers is how many of the machines that have an image are named.
	imageUsers = 100
	// signaturesMost of one image.
	signaturesMost = 16
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
	Private         bool // machines are given it over TLS only
	InService       bool
	CreatedAt       time.Time
	HostedOn        []string // ids of controllers that have a copy
	Signatures      []Signature
	UsedBy          []string // ids of machines, the first hundred
}

// Label is what people call it: its name, and its version if it has one.
func (i Image) Label() string {
	if i.Version == "" {
		return i.Name
	}
	return i.Name + "@" + i.Version
}

// Signature is a detached one of an image's manifest; nobody has checked it.
type Signature struct {
	KeyID string // 16 upper-case hexadecimal digits
	Text  []byte // as minisign writes it
}

// ImageRecord puts a stored and verified image into service, with the copy that
// the controller has. Recording it again adds the copy and may make it private;
// it changes no more. The same digest by another name or version is fault.Exists.
func (s *Store) ImageRecord(ctx context.Context, i Image, controllerID, actor string) error {
	err := s.tx(ctx, "record image "+i.Digest, func(tx pgx.Tx) error {
		var name, version string
		err := tx.QueryRow(ctx, s.sql.Get("ImageRecord"), i.Digest, i.Name, i.Version, i.Architecture, i.Kind, i.SizeBytes,
			i.PackedSizeBytes, i.SectorBytes, i.FrameBytes, i.KexecAllowed, i.Private).Scan(&name, &version)
		if err != nil {
			return err
		}
		if name != i.Name || version != i.Version {
			return fault.New(fault.Exists, "these bytes are in service already, as %s: delete that image first (ingot image delete %s)", Image{Name: name, Version: version}.Label(), i.Digest)
		}
		if _, err := tx.Exec(ctx, s.sql.Get("ImageCopyRecord"), i.Digest, controllerID); err != nil {
			return err
		}
		_, err = s.auditAdd(ctx, tx, actor, "image.record", i.Digest, map[string]string{"name": i.Name, "version": i.Version, "controller": controllerID})
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

func noImage(word string) error {
	return fault.New(fault.NotFound, "no image %q: ingot image list shows all", cut(word, 80))
}

// ImageGet finds an image in service by its digest in hex.
func (s *Store) ImageGet(ctx context.Context, digest string) (Image, error) {
	list, err := s.imageLoad(ctx, "ImageGet", cut(digest, 80))
	if err != nil {
		return Image{}, wrap(err, "look for image %q", digest)
	}
	if len(list) == 0 {
		return Image{}, noImage(digest)
	}
	return list[0], nil
}

// ImageNamed lists the images in service of a name, of all versions and
// architectures, the one imported last first. There may be none.
func (s *Store) ImageNamed(ctx context.Context, name string) ([]Image, error) {
	list, err := s.imageLoad(ctx, "ImageNamed", cut(name, 300), ImagesOfName)
	return list, wrap(err, "look for image %q", name)
}

// ImageList lists images in service by digest, all or those of a name. The token
// is empty after the last page.
func (s *Store) ImageList(ctx context.Context, name string, size int, token string) ([]Image, string, error) {
	size = pageSize(size)
	list, err := s.imageLoad(ctx, "ImageList", cut(token, 80), size+1, cut(name, 300))
	if err != nil {
		return nil, "", wrap(err, "list images")
	}
	next := ""
	if len(list) > size {
		list, next = list[:size], list[size-1].Digest
	}
	return list, next, nil
}

// imageLoad runs a query of whole images and adds signatures and users.
func (s *Store) imageLoad(ctx context.Context, query string, args ...any) ([]Image, error) {
	list, err := collect(ctx, s.pool, s.sql.Get(query), scanImage, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	byDigest := map[string]*Image{}
	var digests []string
	for i := range list {
		byDigest[list[i].Digest] = &list[i]
		digests = append(digests, list[i].Digest)
	}
	_, err = collect(ctx, s.pool, s.sql.Get("ImageSignatures"), func(r pgx.CollectableRow) (struct{}, error) {
		var digest string
		var sig Signature
		err := r.Scan(&digest, &sig.KeyID, &sig.Text)
		if i := byDigest[digest]; i != nil {
			i.Signatures = append(i.Signatures, sig)
		}
		return struct{}{}, err
	}, digests)
	if err != nil {
		return nil, err
	}
	users, err := s.imageUsersOf(ctx, s.pool, digests)
	for digest, ids := range users {
		byDigest[digest].UsedBy = ids
	}
	return list, err
}

func (s *Store) imageUsersOf(ctx context.Context, q querier, digests []string) (map[string][]string, error) {
	users := map[string][]string{}
	_, err := collect(ctx, q, s.sql.Get("ImageUsers"), func(r pgx.CollectableRow) (struct{}, error) {
		var digest, id string
		err := r.Scan(&digest, &id)
		users[digest] = append(users[digest], id)
		return struct{}{}, err
	}, digests, imageUsers)
	return users, err
}

func scanImage(r pgx.CollectableRow) (Image, error) {
	var i Image
	err := r.Scan(&i.Digest, &i.Name, &i.Version, &i.Architecture, &i.Kind, &i.SizeBytes, &i.PackedSizeBytes, &i.SectorBytes,
		&i.FrameBytes, &i.KexecAllowed, &i.Private, &i.InService, &i.CreatedAt, &i.HostedOn)
	i.CreatedAt = i.CreatedAt.UTC()
	return i, err
}

// imageLock holds an image's row, so that no wish for it comes in meanwhile.
func (s *Store) imageLock(ctx context.Context, tx pgx.Tx, digest string) error {
	var d string
	err := tx.QueryRow(ctx, s.sql.Get("ImageLock"), digest).Scan(&d)
	if err == pgx.ErrNoRows {
		return noImage(digest)
	}
	return err
}

// ImageDelete takes an image out of the database. One that is deployed, or is
// about to be, is fault.Precondition. Its files are the caller's to remove.
func (s *Store) ImageDelete(ctx context.Context, digest, actor string) error {
	err := s.tx(ctx, "delete image "+digest, func(tx pgx.Tx) error {
		if err := s.imageLock(ctx, tx, digest); err != nil {
			return err
		}
		users, err := s.imageUsersOf(ctx, tx, []string{digest})
		if err != nil {
			return err
		}
		if by := users[digest]; len(by) > 0 {
			return fault.New(fault.Precondition, "image %s is in use by %s: release it first", cut(digest, 12), someMachines(by))
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

// someMachines names some machines in a sentence.
func someMachines(ids []string) string {
	const most = 5
	switch {
	case len(ids) == 1:
		return "machine " + ids[0]
	case len(ids) > most:
		return "machines " + strings.Join(ids[:most], ", ") + " and more"
	}
	return "machines " + strings.Join(ids, ", ")
}
