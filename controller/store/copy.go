package store

import (
	"context"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Place is where a controller is reached.
type Place struct {
	ControllerID string
	// Addresses by which machines reach it, with the prefixes of their subnets.
	Addresses []netip.Prefix
	BootPort  int // plain HTTP
	// ReportPort speaks TLS.
	ReportPort int
	// APIURLs are https://host:port, for other controllers.
	APIURLs []string
}

// ControllerPlace records where a controller that has started is reached.
func (s *Store) ControllerPlace(ctx context.Context, p Place) error {
	if p.Addresses == nil {
		p.Addresses = []netip.Prefix{}
	}
	if p.APIURLs == nil {
		p.APIURLs = []string{}
	}
	_, err := s.pool.Exec(ctx, s.sql.Get("ControllerPlace"), p.ControllerID, p.Addresses, p.BootPort, p.ReportPort, p.APIURLs)
	return wrap(err, "record where controller %s is reached", p.ControllerID)
}

// ImageCopyPlaces lists the controllers that live and have a copy of an image in
// service (by the hex of its digest), without the one that asks; those that
// imported it come first. At most eight.
func (s *Store) ImageCopyPlaces(ctx context.Context, digest, without string) ([]Place, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("ImageCopyPlaces"), func(r pgx.CollectableRow) (Place, error) {
		var p Place
		return p, r.Scan(&p.ControllerID, &p.Addresses, &p.BootPort, &p.ReportPort, &p.APIURLs)
	}, digest, without)
	return list, wrap(err, "look who has image %s", cut(digest, 80))
}

// ImageCopyKeep records that a controller pulled a copy from another one; false
// when the image is not in service any more.
func (s *Store) ImageCopyKeep(ctx context.Context, digest, controllerID string) (bool, error) {
	tag, err := s.pool.Exec(ctx, s.sql.Get("ImageCopyKeep"), digest, controllerID)
	if err != nil {
		return false, wrap(err, "record a copy of image %s", cut(digest, 80))
	}
	s.changed()
	return tag.RowsAffected() == 1, nil
}

// ImageCopyDrop takes the record of a pulled copy back, unless no controller that
// lives has another one, or it was imported there; then it is false.
func (s *Store) ImageCopyDrop(ctx context.Context, digest, controllerID string) (bool, error) {
	dropped := false
	err := s.tx(ctx, "give up a copy of image "+cut(digest, 80), func(tx pgx.Tx) error {
		// Two controllers that give up the last two copies take turns here.
		var d string
		err := tx.QueryRow(ctx, s.sql.Get("ImageLock"), digest).Scan(&d)
		if err == pgx.ErrNoRows {
			dropped = true // its rows went with the image
			return nil
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, s.sql.Get("ImageCopyDrop"), digest, controllerID)
		dropped = err == nil && tag.RowsAffected() == 1
		return err
	})
	return dropped && err == nil, err
}

// ImageCopiesPulled lists the digests of the copies that a controller pulled.
func (s *Store) ImageCopiesPulled(ctx context.Context, controllerID string) ([]string, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("ImageCopiesPulled"), pgx.RowTo[string], controllerID)
	return list, wrap(err, "list the copies that controller %s pulled", controllerID)
}

// ImagePrivate tells whether an image may travel by TLS only; fault.NotFound when
// there is none.
func (s *Store) ImagePrivate(ctx context.Context, digest string) (private bool, err error) {
	err = s.pool.QueryRow(ctx, s.sql.Get("ImagePrivate"), digest).Scan(&private)
	if err == pgx.ErrNoRows {
		return false, fault.New(fault.NotFound, "no image %q: ingot image list shows all", cut(digest, 80))
	}
	return private, wrap(err, "look whether image %s is private", cut(digest, 80))
}

// ImageGrant implements image.Access: an agent may read an image while its order
// to deploy it is open, in the boot that the order is for.
func (s *Store) ImageGrant(ctx context.Context, r image.Reader, digest string) (image.Grant, error) {
	var g image.Grant
	err := s.pool.QueryRow(ctx, s.sql.Get("ImageGrant"), r.MachineID, r.OrderID, r.BootGeneration, digest).Scan(&g.Refused, &g.Private, &g.Owner)
	if err == pgx.ErrNoRows {
		return image.Grant{Refused: "there is no such order"}, nil
	}
	return g, wrap(err, "look whether machine %s may read image %s", cut(r.MachineID, 20), cut(digest, 80))
}
