package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
)

const tokenPrefix = "ingot_"

// Token is what is known of an operator's token; never the token.
type Token struct {
	Name      string // of the bearer, as it stands in the audit trail
	Prefix    string // its first letters, to tell it by
	CreatedBy string
	CreatedAt time.Time
	RevokedAt time.Time // zero: in force
}

// TokenCreate makes a token for a bearer and returns it, once. A name that has
// one in force is fault.Exists.
func (s *Store) TokenCreate(ctx context.Context, name, actor string) (seal.Secret, error) {
	var token seal.Secret
	err := s.tx(ctx, "make a token for "+name, func(tx pgx.Tx) error {
		var err error
		token, err = s.tokenInsert(ctx, tx, name, actor)
		return err
	})
	return token, err
}

// TokenBootstrap makes the first token, for name, if there was never any; it
// returns an empty one otherwise. Controllers that start together make one.
func (s *Store) TokenBootstrap(ctx context.Context, name string) (seal.Secret, error) {
	var token seal.Secret
	err := s.tx(ctx, "make the first token", func(tx pgx.Tx) error {
		token = ""
		if _, err := tx.Exec(ctx, s.sql.Get("TokenTableLock")); err != nil {
			return err
		}
		var any bool
		if err := tx.QueryRow(ctx, s.sql.Get("TokenAny")).Scan(&any); err != nil || any {
			return err
		}
		var err error
		token, err = s.tokenInsert(ctx, tx, name, "ingotd")
		return err
	})
	return token, err
}

func (s *Store) tokenInsert(ctx context.Context, tx pgx.Tx, name, actor string) (seal.Secret, error) {
	if name == "" || len(name) > 100 {
		return "", fault.New(fault.Invalid, "a token's bearer has a name of 1 to 100 bytes")
	}
	random := make([]byte, 32)
	rand.Read(random) // never fails (crypto/rand)
	token := tokenPrefix + hex.EncodeToString(random)
	prefix := token[:len(tokenPrefix)+6]
	if _, err := tx.Exec(ctx, s.sql.Get("TokenInsert"), name, prefix, hash(token), cut(actor, 200)); err != nil {
		return "", exists(err, "%q has a token in force already", name)
	}
	_, err := s.auditAdd(ctx, tx, actor, "token.create", name, map[string]string{"prefix": prefix})
	return seal.Secret(token), err
}

// TokenCheck gives the name of a token's bearer; fault.Unauthenticated for one
// that is unknown or revoked. The token has 256 random bits, so a plain hash is
// looked up and no slow one is needed.
func (s *Store) TokenCheck(ctx context.Context, token string) (actor string, err error) {
	unknown := fault.New(fault.Unauthenticated, "the token is not known or was revoked")
	if !strings.HasPrefix(token, tokenPrefix) || len(token) != len(tokenPrefix)+64 {
		return "", unknown
	}
	err = s.pool.QueryRow(ctx, s.sql.Get("TokenCheck"), hash(token)).Scan(&actor)
	if err == pgx.ErrNoRows {
		return "", unknown
	}
	return actor, wrap(err, "check a token")
}

// TokenRevoke ends a bearer's token; fault.NotFound when none is in force.
func (s *Store) TokenRevoke(ctx context.Context, name, actor string) error {
	return s.tx(ctx, "revoke the token of "+name, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, s.sql.Get("TokenRevoke"), name)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fault.New(fault.NotFound, "%q has no token in force", cut(name, 100))
		}
		_, err = s.auditAdd(ctx, tx, actor, "token.revoke", name, nil)
		return err
	})
}

// TokenList lists all tokens, revoked ones too, the oldest first.
func (s *Store) TokenList(ctx context.Context) ([]Token, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("TokenList"), func(r pgx.CollectableRow) (Token, error) {
		var t Token
		var revoked *time.Time
		err := r.Scan(&t.Name, &t.Prefix, &t.CreatedBy, &t.CreatedAt, &revoked)
		t.CreatedAt, t.RevokedAt = t.CreatedAt.UTC(), instant(revoked)
		return t, err
	})
	return list, wrap(err, "list tokens")
}
