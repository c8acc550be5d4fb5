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
	ExpiresAt time.Time // zero: never
	// LastUsedAt is right to the minute; zero: never used.
	LastUsedAt time.Time
	// EndedAt is when it was revoked or expired; zero: in force.
	EndedAt time.Time
}

// TokenCreate makes a token for a bearer, until expires (zero: for good), and
// returns it, once. A name that has one in force is fault.Exists.
func (s *Store) TokenCreate(ctx context.Context, name string, expires time.Time, actor string) (seal.Secret, error) {
	var token seal.Secret
	err := s.tx(ctx, "make a token for "+name, func(tx pgx.Tx) error {
		var now time.Time
		if err := tx.QueryRow(ctx, s.sql.Get("ClockNow")).Scan(&now); err != nil {
			return err
		}
		if !expires.IsZero() && (!expires.After(now) || expires.Year() > 9999) {
			return fault.New(fault.Invalid, "a token cannot expire at %s: it is %s now", expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		if _, err := tx.Exec(ctx, s.sql.Get("TokenEndExpired"), name); err != nil {
			return err
		}
		var err error
		token, err = s.tokenInsert(ctx, tx, name, expires, actor)
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
		token, err = s.tokenInsert(ctx, tx, name, time.Time{}, "ingotd")
		return err
	})
	return token, err
}

func (s *Store) tokenInsert(ctx context.Context, tx pgx.Tx, name string, expires time.Time, actor string) (seal.Secret, error) {
	if name == "" || len(name) > 100 {
		return "", fault.New(fault.Invalid, "a token's bearer has a name of 1 to 100 bytes")
	}
	random := make([]byte, 32)
	rand.Read(random) // never fails (crypto/rand)
	token := tokenPrefix + hex.EncodeToString(random)
	prefix := token[:len(tokenPrefix)+6]
	if _, err := tx.Exec(ctx, s.sql.Get("TokenInsert"), name, prefix, hash(token), cut(actor, 200), when(expires)); err != nil {
		return "", exists(err, "%q has a token in force already; revoke it first (ingot token revoke %s), or choose another name", name, name)
	}
	detail := map[string]string{"prefix": prefix}
	if !expires.IsZero() {
		detail["expires"] = expires.UTC().Format(time.RFC3339)
	}
	_, err := s.auditAdd(ctx, tx, actor, "token.create", name, detail)
	return seal.Secret(token), err
}

// TokenCheck gives the name of a token's bearer; fault.Unauthenticated for one
// that is unknown, expired or revoked. The token has 256 random bits, so a plain hash is
// looked up and no slow one is needed.
func (s *Store) TokenCheck(ctx context.Context, token string) (actor string, err error) {
	unknown := fault.New(fault.Unauthenticated, "the token is not known, has expired or was revoked")
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

// TokenList lists the tokens in force, or all that ever were, the oldest first.
func (s *Store) TokenList(ctx context.Context, all bool) ([]Token, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("TokenList"), func(r pgx.CollectableRow) (Token, error) {
		var t Token
		var expires, used, ended *time.Time
		err := r.Scan(&t.Name, &t.Prefix, &t.CreatedBy, &t.CreatedAt, &expires, &used, &ended)
		t.CreatedAt, t.ExpiresAt, t.LastUsedAt, t.EndedAt = t.CreatedAt.UTC(), instant(expires), instant(used), instant(ended)
		return t, err
	}, all)
	return list, wrap(err, "list tokens")
}
