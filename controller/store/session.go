package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// SessionOpen implements boot.Directory. The open session's nonce comes back
// while at least three minutes of it are left, so that an agent has time to
// start; after that a new window opens and the old one stays valid to its end.
// No window opens for an approved machine whose agent is connected
// (fault.Unavailable): whoever asks is not that machine, or its stream has not
// yet been found dead, which takes seconds, and it asks again.
func (s *Store) SessionOpen(ctx context.Context, r boot.SessionRequest) (boot.Session, error) {
	if len(r.MAC) < 6 || len(r.MAC) > 20 {
		return boot.Session{}, fault.New(fault.Invalid, "a boot session needs the address of a network interface")
	}
	var session boot.Session
	err := s.tx(ctx, "open a boot session", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("SessionLock"), []byte(r.MAC)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("SessionForget")); err != nil {
			return err
		}
		var here bool
		if err := tx.QueryRow(ctx, s.sql.Get("SessionAgentHere"), []byte(r.MAC)).Scan(&here); err != nil {
			return err
		}
		if here {
			return fault.New(fault.Unavailable, "the agent of %s is connected; a boot session opens when it is gone", r.MAC)
		}
		var id int64
		var salt, sum []byte
		err := tx.QueryRow(ctx, s.sql.Get("SessionFindOpen"), []byte(r.MAC)).Scan(&id, &salt, &sum, &session.ExpiresAt)
		if err != nil && err != pgx.ErrNoRows {
			return err
		}
		if err == nil {
			// Made with another key file's first key, the nonce cannot be made again.
			if session.Nonce = s.nonce(id, salt); bytes.Equal(hash(session.Nonce), sum) {
				return nil
			}
		}
		session, err = s.sessionInsert(ctx, tx, r)
		return err
	})
	session.ExpiresAt = session.ExpiresAt.UTC()
	return session, err
}

func (s *Store) sessionInsert(ctx context.Context, tx pgx.Tx, r boot.SessionRequest) (boot.Session, error) {
	var session boot.Session
	uuid, err := parseUUID(r.UUID)
	if err != nil {
		uuid = nil // a claim of a loader; not worth refusing a boot for
	}
	var id int64
	if err := tx.QueryRow(ctx, s.sql.Get("SessionNextID")).Scan(&id); err != nil {
		return session, err
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails (crypto/rand)
	session.Nonce = s.nonce(id, salt)
	err = tx.QueryRow(ctx, s.sql.Get("SessionInsert"), id, salt, hash(session.Nonce), []byte(r.MAC), uuid,
		cut(r.Arch, 32), string(r.FirmwareMode), cut(r.Interface, 64)).Scan(&session.ExpiresAt)
	return session, err
}

// nonce makes a session's secret from its row and the key file: 192 bits, in
// letters that need no quoting on a command line.
func (s *Store) nonce(id int64, salt []byte) string {
	sum := s.ring.Digest("boot session", []byte(strconv.FormatInt(id, 10)), salt)
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Claim is what an agent gets for its nonce.
type Claim struct {
	MachineID      machine.ID
	BootGeneration uint64
	Hostname       string
}

// SessionClaim trades a nonce for a machine and a boot generation, and binds it
// to the key. The same key again gets the same answer while its boot is the
// machine's current one. Another key is fault.Denied and breaks the machine;
// an unknown or expired nonce, or one of another machine's boot, is
// fault.Denied and changes nothing.
func (s *Store) SessionClaim(ctx context.Context, nonce string, keySHA256 []byte, who Identity) (Claim, error) {
	if len(keySHA256) != sha256.Size {
		return Claim{}, fault.New(fault.Invalid, "a key's SHA-256 has 32 bytes, not %d", len(keySHA256))
	}
	who, err := who.checked()
	if err != nil {
		return Claim{}, err
	}
	var claim Claim
	var refused error // commits, unlike an error of the function
	var aside machine.ID
	err = s.tx(ctx, "claim a boot session", func(tx pgx.Tx) error {
		refused = nil
		var c open
		if c, err = s.sessionByNonce(ctx, tx, nonce); err != nil {
			return err
		}
		switch {
		case c.key != nil && bytes.Equal(c.key, keySHA256):
			claim, err = s.claimAgain(ctx, tx, c)
			return err
		case c.expired:
			return fault.New(fault.Denied, "the boot session has expired: start the machine again")
		case c.key != nil:
			refused = fault.New(fault.Denied, "this boot session was claimed with another key")
			aside = c.machineID
			return s.quarantine(ctx, tx, c)
		case !bytes.Equal(c.hardwareAddr, who.BootMAC):
			return fault.New(fault.Denied, "the boot session belongs to another network interface")
		}
		claim, err = s.claimFirst(ctx, tx, c.id, keySHA256, who)
		return err
	})
	if err == nil {
		err = refused
		s.changed(claim.MachineID, aside)
	}
	if err != nil {
		return Claim{}, err
	}
	return claim, nil
}

// open is a boot session as a claim finds it.
type open struct {
	id             int64
	hardwareAddr   []byte
	expired        bool
	key            []byte
	machineID      machine.ID
	bootGeneration uint64
}

func (s *Store) sessionByNonce(ctx context.Context, tx pgx.Tx, nonce string) (open, error) {
	var c open
	err := tx.QueryRow(ctx, s.sql.Get("SessionByNonce"), hash(nonce)).
		Scan(&c.id, &c.hardwareAddr, &c.expired, &c.key, &c.machineID, &c.bootGeneration)
	if err == pgx.ErrNoRows {
		return c, fault.New(fault.Denied, "the boot session is not known: start the machine again")
	}
	return c, err
}

// claimAgain answers a lost reply or a restarted agent.
func (s *Store) claimAgain(ctx context.Context, tx pgx.Tx, c open) (Claim, error) {
	m, err := s.machineLock(ctx, tx, c.machineID)
	if err != nil {
		return Claim{}, err
	}
	if m.bootGeneration != c.bootGeneration {
		return Claim{}, fault.New(fault.Denied, "a newer boot of this machine has enrolled: start the machine again")
	}
	return Claim{MachineID: m.id, BootGeneration: m.bootGeneration, Hostname: m.hostname}, nil
}

// quarantine sets a machine aside whose nonce somebody else also had. Nobody
// knows which of the two is the machine, so the first one's boot ends as well.
func (s *Store) quarantine(ctx context.Context, tx pgx.Tx, c open) error {
	m, err := s.machineLock(ctx, tx, c.machineID)
	if err != nil {
		return err
	}
	if m.bootGeneration != c.bootGeneration {
		return nil // a nonce of an older boot opens nothing, nor does it harm; nor is a machine set aside twice
	}
	detail := fmt.Sprintf("a second key claimed the nonce of boot %d while the machine was %s", c.bootGeneration, m.state)
	if _, err := tx.Exec(ctx, s.sql.Get("SessionBreakMachine"), m.id, machine.ReasonNonceOtherKey, detail); err != nil {
		return err
	}
	if err := s.operationStop(ctx, tx, m.operationID, machine.OperationFailed, machine.ReasonNonceOtherKey, detail); err != nil {
		return err
	}
	if _, err := s.auditAdd(ctx, tx, "agent enrolment", "machine.quarantine", string(m.id), map[string]string{"detail": detail}); err != nil {
		return err
	}
	return s.eventAdd(ctx, tx, m.id, machine.Event{
		Kind: machine.EventState, Text: fmt.Sprintf("%s → %s: %s", m.state, machine.Broken, machine.CauseOf(machine.ReasonNonceOtherKey).Sentence),
		Detail: map[string]string{"reason": string(machine.ReasonNonceOtherKey), "detail": detail},
	})
}

// claimFirst begins a new boot of the machine that the identity names.
func (s *Store) claimFirst(ctx context.Context, tx pgx.Tx, session int64, key []byte, who Identity) (Claim, error) {
	id, warnings, err := s.identify(ctx, tx, who)
	if err != nil {
		return Claim{}, err
	}
	m, err := s.machineLock(ctx, tx, id)
	if err != nil {
		return Claim{}, err
	}
	warnings = append(warnings, conflicts(m, who)...)
	claim := Claim{MachineID: id}
	err = tx.QueryRow(ctx, s.sql.Get("SessionNewBoot"), id, cut(who.BootID, 64), who.BootMode, who.uuid, cut(who.Serial, 200)).
		Scan(&claim.BootGeneration, &claim.Hostname)
	if err != nil {
		return Claim{}, err
	}
	if err := s.nicsSeen(ctx, tx, m, who); err != nil {
		return Claim{}, err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("SessionSupersedeOrders"), id, claim.BootGeneration); err != nil {
		return Claim{}, err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("SessionClaim"), session, key, id, claim.BootGeneration); err != nil {
		return Claim{}, err
	}
	if err := s.warningsAdd(ctx, tx, id, warnings); err != nil {
		return Claim{}, err
	}
	events := []machine.Event{{Kind: machine.EventAgent, Text: fmt.Sprintf("agent of boot %d enrolled", claim.BootGeneration),
		Detail: map[string]string{"mac": who.BootMAC.String(), "boot_id": who.BootID, "boot_mode": string(who.BootMode)}}}
	for _, w := range warnings {
		events = append(events, machine.Event{Kind: machine.EventWarning, Text: w.Text, Detail: map[string]string{"code": w.Code}})
	}
	return claim, s.eventAfford(ctx, tx, id, events...)
}

// CertificateRecord remembers a certificate that was issued to a boot, which is
// what CertificateCheck looks for.
func (s *Store) CertificateRecord(ctx context.Context, id machine.ID, bootGeneration uint64, keySHA256 []byte, serial string, expires time.Time) error {
	_, err := s.pool.Exec(ctx, s.sql.Get("CertificateRecord"), serial, id, bootGeneration, keySHA256, expires)
	return wrap(err, "record a certificate of machine %s", id)
}

// CertificateCheck says whether a key may still speak for a boot of a machine:
// nil, fault.Stale when a newer boot has enrolled (or the machine was set
// aside), fault.Denied when the key was never the boot's or was revoked.
func (s *Store) CertificateCheck(ctx context.Context, id machine.ID, bootGeneration uint64, keySHA256 []byte) error {
	var current uint64
	var known bool
	err := s.pool.QueryRow(ctx, s.sql.Get("CertificateCheck"), id, bootGeneration, keySHA256).Scan(&current, &known)
	switch {
	case err == pgx.ErrNoRows:
		return fault.New(fault.Denied, "machine %s is not known any more", id)
	case err != nil:
		return wrap(err, "check a certificate of machine %s", id)
	case !known:
		return fault.New(fault.Denied, "the key is not one of boot %d of machine %s", bootGeneration, id)
	case current != bootGeneration:
		return staleBoot(id, bootGeneration, current)
	}
	return nil
}

func staleBoot(id machine.ID, got, current uint64) error {
	return fault.New(fault.Stale, "boot %d of machine %s is not its current one (%d)", got, id, current)
}
