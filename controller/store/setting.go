package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/proto/fault"
)

const authorityPlace = "authority.key"

// Authority gives the certificate authority's certificate and key (DER), calling
// make for a new one when there is none. Controllers that start together get the
// same; make may run on more than one of them only if a transaction is repeated.
func (s *Store) Authority(ctx context.Context, make func() (certificate, key []byte, err error)) (certificate, key []byte, err error) {
	err = s.tx(ctx, "read the certificate authority", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("AuthorityLock")); err != nil {
			return err
		}
		var sealed []byte
		err := tx.QueryRow(ctx, s.sql.Get("AuthorityGet")).Scan(&certificate, &sealed)
		if err == nil {
			key, err = s.open(sealed, authorityPlace)
			return err
		}
		if err != pgx.ErrNoRows {
			return err
		}
		if certificate, key, err = make(); err != nil {
			return fmt.Errorf("make a certificate authority: %w", err)
		}
		if sealed, err = s.ring.Seal(key, authorityPlace); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql.Get("AuthorityInsert"), certificate, sealed)
		return err
	})
	return certificate, key, err
}

// settingGet reads a setting into value, a pointer; fault.NotFound when it was
// never set.
func (s *Store) settingGet(ctx context.Context, key string, value any) error {
	var text []byte
	err := s.pool.QueryRow(ctx, s.sql.Get("SettingGet"), key).Scan(&text)
	if err == pgx.ErrNoRows {
		return fault.New(fault.NotFound, "setting %q was never set", cut(key, 80))
	}
	if err != nil {
		return wrap(err, "read setting %s", key)
	}
	return json.Unmarshal(text, value)
}
