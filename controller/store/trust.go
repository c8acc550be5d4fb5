package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

// trustedMost is how many keys a site trusts; agents look at no more.
const trustedMost = 64

// TrustedKey is a public key whose signatures of images count.
type TrustedKey struct {
	Name      string
	KeyID     string
	PublicKey string // one line of base64
	CreatedBy string
	CreatedAt time.Time
}

// Trust is what a machine must be shown before it takes an image.
type Trust struct {
	// Required by the machine's pool. One of Keys must then have made one of
	// Signatures; there may be no key, and then nothing is trusted.
	Required   bool
	Keys       []TrustedKey
	Signatures [][]byte
}

// ImageTrust is what holds for an image on the machines of a pool. An image that
// is not known has no signatures.
func (s *Store) ImageTrust(ctx context.Context, pool, digest string) (Trust, error) {
	var t Trust
	p, err := s.PoolGet(ctx, pool)
	if err != nil {
		return t, err
	}
	t.Required = p.RequireSignedImages
	if t.Keys, err = s.TrustedKeyList(ctx); err != nil {
		return t, err
	}
	t.Signatures, err = collect(ctx, s.pool, s.sql.Get("ImageSignatures"), func(r pgx.CollectableRow) (text []byte, err error) {
		var of, by string
		err = r.Scan(&of, &by, &text)
		return text, err
	}, []string{digest})
	return t, wrap(err, "read the signatures of image %s", cut(digest, 80))
}

// ImageSign keeps a signature; one of the same key takes its place.
func (s *Store) ImageSign(ctx context.Context, digest string, sig Signature, actor string) error {
	err := s.tx(ctx, "keep a signature of image "+digest, func(tx pgx.Tx) error {
		if err := s.imageLock(ctx, tx, digest); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, s.sql.Get("ImageSignatureCount"), digest, sig.KeyID).Scan(&others); err != nil {
			return err
		}
		if others >= signaturesMost {
			return fault.New(fault.Exhausted, "image %s has %d signatures, and no more are kept: ingot image sign IMAGE --remove KEYID", cut(digest, 12), others)
		}
		if _, err := tx.Exec(ctx, s.sql.Get("ImageSignaturePut"), digest, sig.KeyID, sig.Text, cut(actor, 200)); err != nil {
			return err
		}
		_, err := s.auditAdd(ctx, tx, actor, "image.sign", digest, map[string]string{"key": sig.KeyID})
		return err
	})
	if err == nil {
		s.changed()
	}
	return err
}

// ImageUnsign forgets the signature by a key; fault.NotFound when there is none.
func (s *Store) ImageUnsign(ctx context.Context, digest, keyID, actor string) error {
	return s.tx(ctx, "forget a signature of image "+digest, func(tx pgx.Tx) error {
		gone, err := tx.Exec(ctx, s.sql.Get("ImageSignatureDelete"), digest, keyID)
		if err != nil {
			return err
		}
		if gone.RowsAffected() == 0 {
			return fault.New(fault.NotFound, "image %s has no signature by key %s", cut(digest, 12), cut(keyID, 40))
		}
		_, err = s.auditAdd(ctx, tx, actor, "image.unsign", digest, map[string]string{"key": keyID})
		return err
	})
}

// TrustedKeyList lists the keys by name.
func (s *Store) TrustedKeyList(ctx context.Context) ([]TrustedKey, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("TrustedKeyList"), func(r pgx.CollectableRow) (TrustedKey, error) {
		var k TrustedKey
		err := r.Scan(&k.Name, &k.KeyID, &k.PublicKey, &k.CreatedBy, &k.CreatedAt)
		k.CreatedAt = k.CreatedAt.UTC()
		return k, err
	})
	return list, wrap(err, "list trusted keys")
}

// TrustedKeyAdd trusts a key. A name or key that is there is fault.Exists.
func (s *Store) TrustedKeyAdd(ctx context.Context, k TrustedKey, actor string) error {
	err := s.tx(ctx, "trust key "+k.Name, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("TrustedKeyTableLock")); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, s.sql.Get("TrustedKeyCount")).Scan(&n); err != nil {
			return err
		}
		if n >= trustedMost {
			return fault.New(fault.Exhausted, "%d keys are trusted, and no more can be: ingot image trust remove NAME", n)
		}
		_, err := tx.Exec(ctx, s.sql.Get("TrustedKeyInsert"), k.Name, k.KeyID, k.PublicKey, cut(actor, 200))
		if constraint(err) == "trusted_key_id" {
			return exists(err, "key %s is trusted already, by another name: ingot image trust list", k.KeyID)
		}
		if err != nil {
			return exists(err, "a trusted key is named %q already: ingot image trust list", k.Name)
		}
		_, err = s.auditAdd(ctx, tx, actor, "trust.add", k.Name, map[string]string{"key": k.KeyID, "public_key": k.PublicKey})
		return err
	})
	if err == nil {
		s.changed()
	}
	return err
}

// TrustedKeyDelete trusts a key no more. What is deployed stays.
func (s *Store) TrustedKeyDelete(ctx context.Context, name, actor string) error {
	err := s.tx(ctx, "stop trusting key "+name, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, s.sql.Get("TrustedKeyDelete"), name).Scan(&id)
		if err == pgx.ErrNoRows {
			return fault.New(fault.NotFound, "no trusted key is named %q: ingot image trust list", cut(name, 80))
		}
		if err != nil {
			return err
		}
		_, err = s.auditAdd(ctx, tx, actor, "trust.remove", name, map[string]string{"key": id})
		return err
	})
	if err == nil {
		s.changed()
	}
	return err
}
